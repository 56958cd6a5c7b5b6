--[[
adopt: fence a sale to the Redis that runs now, after a stop that is known to have lost nothing (D1).

KEYS  1 meta  hash  the sale
ARGV  1 was  identity of the Redis before
Returns {outcome}
      ADOPTED  the sale was fenced to that one and is now fenced to this one
      OTHER    the sale was fenced to another; nothing was changed
--]]
local meta, was = KEYS[1], ARGV[1]
if redis.call('HGET', meta, 'fence') ~= was then return answer('OTHER') end
redis.call('HSET', meta, 'fence', instance())
return answer('ADOPTED')
