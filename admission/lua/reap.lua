--[[
reap: leases that have ended. The ticket goes back to its own place, or lapses when it was admitted too often (L5).

KEYS  1 meta     hash    the sale
      2 items    hash    claims
      3 counts   hash    tickets by state
      4 tickets  hash    ticket_id -> record
      5 live     hash    sku:buyer -> live ticket
      6 leases   zset    ADMITTED ticket -> deadline
      7 outbox   stream  facts for Kafka
      8* line    zset    one for each sku
ARGV  1 most       int, leases a call
      2 max_tries  int
      3 skus       packed list, in the order of the repeated keys
      4 moved      channel of moved tickets
Returns {DONE, returned, lapsed}
      DONE  so many tickets each
--]]
-- include ended_fact
-- include requeue
local keys = {
  meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], leases = KEYS[6], outbox = KEYS[7],
}
local most, max_tries, skus, channel = tonumber(ARGV[1]), tonumber(ARGV[2]), cmsgpack.unpack(ARGV[3]), ARGV[4]
if fenced(keys.meta) then return answer('FENCED') end

local lines = {}
for at, sku in ipairs(skus) do lines[sku] = KEYS[7 + at] end
local sale_id, now = redis.call('HGET', keys.meta, 'sale_id'), now_ms()
local returned, lapsed = 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.leases, '-inf', now, 'LIMIT', 0, most)) do
  local ticket = load(keys.tickets, id)
  if ticket[F.tries] < max_tries then
    requeue(keys, lines[ticket[F.sku]], id, ticket, now)
    returned = returned + 1
  else
    redis.call('ZREM', keys.leases, id)
    add(keys.items, ticket[F.sku] .. ':claims', -ticket[F.quantity])
    move(keys, id, ticket, 'lapse', 'not_decided_in_time', now)
    post_ended(keys.outbox, 'ticket.lapsed.v1', sale_id, id, ticket, 'not_decided_in_time', now)
    lapsed = lapsed + 1
  end
end
write_counts()
publish(channel)
return answer('DONE', returned, lapsed)
