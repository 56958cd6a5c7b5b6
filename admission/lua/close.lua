--[[
close: after the end of a sale, decline those who still wait, then close it when nothing is under way (E4).

Postgres is told first, with the last counts; the sale is closed here when Postgres knows.

KEYS  1 meta     hash    the sale
      2 items    hash    claims
      3 counts   hash    tickets by state
      4 tickets  hash    ticket_id -> record
      5 live     hash    sku:buyer -> live ticket
      6 outbox   stream  facts for Kafka
      7* line       zset  one for each sku
      8* withdrawn  set   one for each sku
      9* parked     zset  one for each sku
ARGV  1 most          int, tickets a call
      2 outbox_limit  int, facts; a full outbox stops this too
      3 skus          packed list, in the order of the repeated keys
      4 moved         channel of moved tickets
Returns {outcome, declined}
      NOT_ENDED  the sale has not ended; nothing was changed
      ENDED      so many tickets are DECLINED, more may follow
      CLOSED     nothing is under way any more, and Postgres knows
--]]
-- include ended_fact
-- include count_fact
-- include sale_fact
-- include unpark
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], outbox = KEYS[6] }
local most, outbox_limit, skus, channel = tonumber(ARGV[1]), tonumber(ARGV[2]), cmsgpack.unpack(ARGV[3]), ARGV[4]
if fenced(keys.meta) then return answer('FENCED') end

local meta = redis.call('HMGET', keys.meta, 'state', 'sale_id', 'epoch', 'version', 'acked', 'closing')
if meta[1] == 'closed' then return answer('CLOSED', 0) end
if meta[1] ~= 'ended' then return answer('NOT_ENDED', 0) end
local now, declined, epoch, under_way = now_ms(), 0, tonumber(meta[3]), 0
local room = math.min(most, outbox_limit - redis.call('XLEN', keys.outbox))
for at, sku in ipairs(skus) do
  local line, parked = KEYS[6 + at], KEYS[6 + #skus + #skus + at]
  local last = room - declined
  unpark(line, parked, last)
  for _, id in ipairs(last > 0 and redis.call('ZREVRANGE', line, 0, last - 1) or {}) do
    local ticket = load(keys.tickets, id)
    if ticket[F.back] == 1 then add(keys.items, sku .. ':back', -ticket[F.quantity]) end
    redis.call('ZREM', line, id)
    move(keys, id, ticket, 'decline', 'sale_closed', now)
    post_ended(keys.outbox, 'ticket.declined.v1', meta[2], id, ticket, 'sale_closed', now)
    declined = declined + 1
  end
  advance(keys, sku, line, epoch)
  local admitted, reserved = numbers(keys.counts, sku, 'ADMITTED', 'RESERVED')
  under_way = under_way + admitted + reserved + redis.call('ZCARD', line) + redis.call('ZCARD', parked)
end
write_counts()
publish(channel)
-- Postgres was told too early: somebody has come back since with the token of a lost ticket (D4).
if declined > 0 and meta[6] then redis.call('HDEL', keys.meta, 'closing') end
if under_way == 0 and redis.call('XLEN', keys.outbox) == 0 and meta[4] == meta[5] then
  if not meta[6] then
    redis.call('HSET', keys.meta, 'closing', 'closed')
    post_counts(keys, meta[2], epoch, now)
    change_sale(keys, skus, slice(6 + #skus, #skus), 'close', '', now)
    return answer('ENDED', declined)
  end
  redis.call('HSET', keys.meta, 'state', 'closed', 'closed_ms', now)
  return answer('CLOSED', declined)
end
return answer('ENDED', declined)
