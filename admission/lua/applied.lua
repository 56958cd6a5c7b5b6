--[[
applied: Postgres knows the sale up to a version. What was asked for up to then goes on sale (U3, O4).

KEYS  1 meta   hash  the sale
      2 items  hash  stock
ARGV  1 version  int
      2 epoch    int, of the sale when it was sent
      3 created  ms, when the sale that Postgres knows was created; empty where it does not know
      4 skus     packed list
Returns {outcome}
      APPLIED  noted
      OLD      it was noted before, or belongs to another epoch; nothing was changed
      HALTED   Postgres knows another sale of this id: this one was made anew where that one was lost; it is halted (D2)
--]]
local keys = { meta = KEYS[1], items = KEYS[2] }
local version, epoch, created_ms, skus = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), cmsgpack.unpack(ARGV[4])
if fenced(keys.meta) then return answer('FENCED') end

local meta = redis.call('HMGET', keys.meta, 'acked', 'epoch', 'version', 'created_ms')
local mine_ms = tonumber(meta[4] or '')
if created_ms and mine_ms and created_ms ~= mine_ms then
  redis.call('HSET', keys.meta, 'fence', 'halted', 'halted_because', 'made anew')
  return answer('HALTED')
end
if tonumber(meta[2]) ~= epoch or version <= tonumber(meta[1]) or version > tonumber(meta[3]) then return answer('OLD') end
redis.call('HSET', keys.meta, 'acked', version)
for _, sku in ipairs(skus) do
  local high, target_high, asked = numbers(keys.items, sku, 'high', 'target', 'asked')
  if asked <= version and target_high > high then redis.call('HSET', keys.items, sku .. ':high', target_high) end
end
return answer('APPLIED')
