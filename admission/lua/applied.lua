--[[
applied: Postgres knows the sale up to a version. What was asked for up to then goes on sale (U3, O4).

KEYS  1 meta   hash  the sale
      2 items  hash  stock
ARGV  1 version  int
      2 epoch    int, of the sale when it was sent
      3 skus     packed list
Returns {outcome}
      APPLIED  noted
      OLD      it was noted before, or belongs to another epoch; nothing was changed
--]]
local keys = { meta = KEYS[1], items = KEYS[2] }
local version, epoch, skus = tonumber(ARGV[1]), tonumber(ARGV[2]), cmsgpack.unpack(ARGV[3])
if fenced(keys.meta) then return answer('FENCED') end

local meta = redis.call('HMGET', keys.meta, 'acked', 'epoch', 'version')
if tonumber(meta[2]) ~= epoch or version <= tonumber(meta[1]) or version > tonumber(meta[3]) then return answer('OLD') end
redis.call('HSET', keys.meta, 'acked', version)
for _, sku in ipairs(skus) do
  local high, target_high, asked = numbers(keys.items, sku, 'high', 'target', 'asked')
  if asked <= version and target_high > high then redis.call('HSET', keys.items, sku .. ':high', target_high) end
end
return answer('APPLIED')
