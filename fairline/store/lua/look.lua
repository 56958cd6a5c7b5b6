--[[
look: how the sale stands now, for everybody: state, pace and, for each sku, how far its line has come. Changes nothing.

KEYS  1 meta       hash    the sale
      2 items      hash    stock and place numbers
      3 counts     hash    tickets by state
      4* line      zset    one for each sku
      5* returned  zset    one for each sku
ARGV  1 skus  packed list, in the order of the repeated keys
Returns {DONE, now_ms, meta, [[served, waiting, older, free, outlook, stock, version], ...]}
      DONE  meta is a map of the fields of the hash, all text
--]]
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3] }
local skus = cmsgpack.unpack(ARGV[1])
if fenced(keys.meta) then return answer('FENCED') end

local flat, meta = redis.call('HGETALL', keys.meta), {}
for at = 1, #flat, 2 do meta[flat[at]] = flat[at + 1] end
local epoch, rows = tonumber(meta.epoch), {}
for at, sku in ipairs(skus) do
  local line, returned = KEYS[3 + at], KEYS[3 + #skus + at]
  local served, stock, version, high, target_high = numbers(keys.items, sku, 'served', 'stock', 'version', 'high', 'target')
  local admitted, reserved = numbers(keys.counts, sku, 'ADMITTED', 'RESERVED')
  local free = free_units(keys.items, sku, returned)
  local older = epoch > 0 and redis.call('ZCOUNT', line, '-inf', before_epoch(epoch)) or 0
  rows[at] = {
    served, redis.call('ZCARD', line), older, free, outlook(free, admitted, reserved, target_high > high), stock, version,
  }
end
return answer('DONE', now_ms(), meta, rows)
