--[[
remember: write down again what was left of an archived sale, on a Redis that does not know it (C2).

KEYS  1 meta    hash  the sale
      2 items   hash  stock
      3 counts  hash  tickets by state and running totals
ARGV  1 fields  packed map of fields of `meta`, all text
      2 items   packed map of fields of `items`
      3 counts  packed map of fields of `counts`
Returns {outcome}
      REMEMBERED  the sale answers again, as archived
      KNOWN       there is a sale of this id; nothing was changed
--]]
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3] }
local fields, items, counts = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
if not fenced(keys.meta) or redis.call('EXISTS', keys.meta) == 1 then return answer('KNOWN') end

for field, text in pairs(fields) do redis.call('HSET', keys.meta, field, text) end
redis.call('HSET', keys.meta, 'fence', ANY_FENCE)
for field, number in pairs(items) do redis.call('HSET', keys.items, field, number) end
for field, number in pairs(counts) do redis.call('HSET', keys.counts, field, number) end
return answer('REMEMBERED')
