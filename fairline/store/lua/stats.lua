--[[
stats: every count of a sale at one instant, so that they add up (C1). Changes nothing.

KEYS  1 meta       hash    the sale
      2 counts     hash    tickets by state and running totals
      3 items      hash    stock and place numbers
      4 leases     zset    tickets admitted now
      5 outbox     stream  facts not yet on Kafka
      6* returned  zset    one for each sku
ARGV  1 skus  packed list, in the order of the repeated keys
Returns {DONE, now_ms, state, counts, [[stock, free, high, withdrawn], ...], in_flight, outbox, share, because}
      DONE  counts is a flat list of field, number, field, number, ...; share and because as the last admit call had them
--]]
local keys = { meta = KEYS[1], counts = KEYS[2], items = KEYS[3], leases = KEYS[4], outbox = KEYS[5] }
local skus = cmsgpack.unpack(ARGV[1])
if fenced(keys.meta) then return answer('FENCED') end

local rows = {}
for at, sku in ipairs(skus) do
  local stock, high, target_high = numbers(keys.items, sku, 'stock', 'high', 'target')
  rows[at] = { stock, free_units(keys.items, sku, KEYS[5 + at]), high, target_high - stock }
end
local meta = redis.call('HMGET', keys.meta, 'state', 'share', 'because')
local slow = meta[1] == 'open' and (meta[3] or '') ~= ''
return answer(
  'DONE', now_ms(), meta[1], redis.call('HGETALL', keys.counts), rows,
  redis.call('ZCARD', keys.leases), redis.call('XLEN', keys.outbox),
  slow and tonumber(meta[2]) or 1, slow and meta[3] or ''
)
