--[[
balance: what of a sale is kept twice in Redis, read at one instant, so that it can be compared (C1). Changes nothing.

KEYS  1 meta      hash  the sale
      2 counts    hash  tickets by state
      3 tickets   hash  ticket_id -> record
      4 live      hash  sku:buyer -> live ticket
      5 leases    zset  ADMITTED ticket -> deadline
      6 reserved  zset  RESERVED ticket -> next redrive
      7* line     zset  one for each sku
      8* parked   zset  one for each sku
ARGV  1 skus  packed list, in the order of the repeated keys
Returns {DONE, counts, tickets, live, leases, reserved, [waiting, ...]}
      DONE  counts is a flat list of field, number, field, number, ...; the others are numbers of members
--]]
local keys = { meta = KEYS[1], counts = KEYS[2], tickets = KEYS[3], live = KEYS[4], leases = KEYS[5], reserved = KEYS[6] }
local skus = cmsgpack.unpack(ARGV[1])
if fenced(keys.meta) then return answer('FENCED') end

local waiting = {}
for at = 1, #skus do waiting[at] = redis.call('ZCARD', KEYS[6 + at]) + redis.call('ZCARD', KEYS[6 + #skus + at]) end
return answer(
  'DONE', redis.call('HGETALL', keys.counts), redis.call('HLEN', keys.tickets), redis.call('HLEN', keys.live),
  redis.call('ZCARD', keys.leases), redis.call('ZCARD', keys.reserved), waiting
)
