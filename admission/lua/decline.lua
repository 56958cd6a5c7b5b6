--[[
decline: the shop said no to admitted tickets (L2).

KEYS  1 meta     hash    the sale
      2 items    hash    claims
      3 counts   hash    tickets by state
      4 tickets  hash    ticket_id -> record
      5 live     hash    sku:buyer -> live ticket
      6 leases   zset    ADMITTED ticket -> deadline
      7 outbox   stream  facts for Kafka
ARGV  1 lease     text
      2 declined  packed [[ticket_id, reason], ...]
      3 moved     channel of moved tickets
      4 reasons   int, of a sku, that counts tell apart; any other one after these counts as `other`
Returns {DONE, [word, ...]}
      DONE      a word for each ticket, in the order given
      DECLINED  it is; now or since an earlier call
      STALE     the ticket is not ADMITTED under this lease; nothing was changed
--]]
-- include ended_fact
local keys = {
  meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], leases = KEYS[6], outbox = KEYS[7],
}
local lease, declined, channel, most_reasons = ARGV[1], cmsgpack.unpack(ARGV[2]), ARGV[3], tonumber(ARGV[4])
if fenced(keys.meta) then return answer('FENCED') end

-- A shop may give each ticket a reason of its own, and the counts must not grow with the tickets.
local new, number = {}, nil -- fields that this call makes, and how many a sku has; counted when there is a new one
local function counted_as(sku, reason)
  local before = sku .. ':DECLINED:'
  if new[before .. reason] or redis.call('HEXISTS', keys.counts, before .. reason) == 1 then return reason end
  if not number then
    number = {}
    for _, field in ipairs(redis.call('HKEYS', keys.counts)) do
      local of = string.match(field, '^[^:]*:DECLINED:')
      if of then number[of] = (number[of] or 0) + 1 end
    end
  end
  if (number[before] or 0) >= most_reasons then return 'other' end
  new[before .. reason], number[before] = true, (number[before] or 0) + 1
  return reason
end

local sale_id, now, words = redis.call('HGET', keys.meta, 'sale_id'), now_ms(), {}
for at, each in ipairs(declined) do
  local id, reason = each[1], each[2]
  local ticket = load(keys.tickets, id)
  if ticket and ticket[F.state] == 'ADMITTED' and ticket[F.lease] == lease then
    move(keys, id, ticket, 'decline', reason, now, counted_as(ticket[F.sku], reason))
    redis.call('ZREM', keys.leases, id)
    add(keys.items, ticket[F.sku] .. ':claims', -ticket[F.quantity])
    post_ended(keys.outbox, 'ticket.declined.v1', sale_id, id, ticket, reason, now)
    words[at] = 'DECLINED'
  else
    words[at] = ticket and ticket[F.state] == 'DECLINED' and 'DECLINED' or 'STALE'
  end
end
write_counts()
publish(channel)
return answer('DONE', words)
