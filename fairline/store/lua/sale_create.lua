--[[
sale_create: write a new sale, fenced to this Redis, and tell Postgres of it. It must be registered before (O4).

KEYS  1 meta        hash    the sale
      2 items       hash    stock
      3 outbox      stream  facts for Kafka
      4* withdrawn  set     one for each sku; empty yet
ARGV  1 fields  packed map of the fields of meta, all text
      2 stocks  packed list of numbers, in the order of skus
      3 skus    packed list, in the order of the repeated keys
Returns {outcome, version}
      CREATED  it is there, in state draft
      EXISTS   there is one already; nothing was changed
--]]
-- include sale_fact
local keys = { meta = KEYS[1], items = KEYS[2], outbox = KEYS[3] }
local fields, stocks, skus = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
if redis.call('EXISTS', keys.meta) == 1 then
  if fenced(keys.meta) then return answer('FENCED') end
  return answer('EXISTS', tonumber(redis.call('HGET', keys.meta, 'version')))
end

local now = now_ms()
for field, text in pairs(fields) do redis.call('HSET', keys.meta, field, text) end
redis.call('HSET', keys.meta,
  'fence', instance(), 'state', 'draft', 'epoch', 0, 'seq', 0, 'version', 0, 'acked', 0, 'tokens', 0, 'filled_us', 0,
  'created_ms', now)
for at, sku in ipairs(skus) do
  redis.call('HSET', keys.items,
    sku .. ':stock', stocks[at], sku .. ':version', 0, sku .. ':high', stocks[at], sku .. ':target', stocks[at],
    sku .. ':asked', 0, sku .. ':next', 1, sku .. ':number', 0, sku .. ':served', 0)
end
return answer('CREATED', change_sale(keys, skus, slice(3, #skus), 'create', '', now))
