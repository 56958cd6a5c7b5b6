--[[
stock: set the stock of one sku, absolutely and with a version (U3).

More: only asked for here; the units go on sale when Postgres knows them. Less: taken off sale here, first those never
sold, then those that came back, and never one that an ADMITTED ticket or one back from a lease has a claim to.

KEYS  1 meta        hash    the sale
      2 items       hash    stock
      3 outbox      stream  facts for Kafka
      4* withdrawn  set     one for each sku of the sale
      5* returned   zset    one for each sku of the sale
ARGV  1 at       int, which sku, from 1
      2 stock    int
      3 version  int, above the one of the last change
      4 reason   text
      5 skus     packed list, in the order of the repeated keys
Returns {outcome, number}
      CHANGED  the version of the sale that Postgres has to acknowledge
      SAME     this version set this stock before; the same number
      STALE    nothing was changed: the version is not above this one
      TOO_LOW  nothing was changed: this is the lowest stock that takes no unit out of a hand
      ENDED    nothing was changed: the sale has ended; 0
--]]
-- include sale_fact
local keys = { meta = KEYS[1], items = KEYS[2], outbox = KEYS[3] }
local at, stock, version, reason = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local skus = cmsgpack.unpack(ARGV[5])
local sku, withdrawn, returned = skus[at], KEYS[3 + at], KEYS[3 + #skus + at]
if fenced(keys.meta) then return answer('FENCED') end

local state = redis.call('HGET', keys.meta, 'state')
local had, last, high, to, asked = numbers(keys.items, sku, 'stock', 'version', 'high', 'target', 'asked')
local first, claims, back = numbers(keys.items, sku, 'next', 'claims', 'back')
if version == last and stock == had and version > 0 then return answer('SAME', asked) end
if version <= last then return answer('STALE', last) end
if state == 'ended' or state == 'closed' then return answer('ENDED', 0) end

local take = 0
if stock < had then
  local waiting_for_postgres = math.min(had - stock, to - high)
  take = had - stock - waiting_for_postgres
  local unclaimed = math.max(0, free_units(keys.items, sku, returned) - claims - back)
  if take > unclaimed then return answer('TOO_LOW', stock + take - unclaimed) end
  to = to - waiting_for_postgres
  local fresh = math.min(take, math.max(0, high - first + 1))
  high, to = high - fresh, to - fresh
  for _, serial in ipairs(fresh < take and redis.call('ZREVRANGE', returned, 0, take - fresh - 1) or {}) do
    redis.call('ZREM', returned, serial)
    redis.call('SADD', withdrawn, serial)
  end
else
  to = to + stock - had
end

asked = tonumber(redis.call('HGET', keys.meta, 'version')) + 1
redis.call('HSET', keys.items,
  sku .. ':stock', stock, sku .. ':version', version, sku .. ':high', high, sku .. ':target', to, sku .. ':asked', asked)
return answer('CHANGED', change_sale(keys, skus, slice(3, #skus), 'stock', reason, now_ms()))
