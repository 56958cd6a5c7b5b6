--[[
install: let a rebuilt sale go on under its new epoch (D2). The one step that everybody sees.

KEYS  1 meta      hash    the sale
      2 items     hash    stock and place numbers
      3 counts    hash    tickets by state and running totals
      4 outbox    stream  facts for Kafka
      5 recovery  string  who rebuilds it, on which Redis
      6* withdrawn  set   one for each sku
ARGV  1 owner    text
      2 hold_ms  int
      3 fields   packed map of fields of `meta`, all text
      4 items    packed map of fields of `items`
      5 counts   packed map of fields of `counts`; running totals that are not among them stay, reasons do not
      6 reason   text, for the history of the sale
      7 skus     packed list, in the order of the repeated keys
Returns {outcome, version}
      INSTALLED  the sale goes on; nobody is admitted for a window of the pace (P3)
      LOST       the caller has the sale in hand no more, or it is not halted; nothing was changed
--]]
-- include in_hand
-- include pace
-- include sale_fact
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3], outbox = KEYS[4], recovery = KEYS[5] }
local owner, hold_ms, fields, items = ARGV[1], tonumber(ARGV[2]), cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4])
local counts, reason, skus = cmsgpack.unpack(ARGV[5]), ARGV[6], cmsgpack.unpack(ARGV[7])
if not in_hand(keys.meta, keys.recovery, owner, hold_ms) then return answer('LOST', 0) end

for field, text in pairs(fields) do redis.call('HSET', keys.meta, field, text) end
for field, number in pairs(items) do redis.call('HSET', keys.items, field, number) end
for _, field in ipairs(redis.call('HKEYS', keys.counts)) do
  if string.find(field, ':DECLINED:', 1, true) then redis.call('HDEL', keys.counts, field) end
end
for field, number in pairs(counts) do redis.call('HSET', keys.counts, field, number) end
local now = now_us()
redis.call('HDEL', keys.meta, 'halted_because', 'closing')
redis.call('HSET', keys.meta, 'fence', instance(), 'tokens', 0, 'filled_us', string.format('%.0f', now),
  'admit_from_us', string.format('%.0f', now + window_of(tonumber(fields.rate)) * 1000000))
redis.call('UNLINK', keys.recovery)
return answer('INSTALLED', change_sale(keys, skus, slice(5, #skus), 'recover', reason, now_ms()))
