--[[
halt: stop everything about a sale until it has been rebuilt; everybody reads `recovering` (U4, D2).

KEYS  1 meta  hash  the sale
ARGV  1 because  text
Returns {outcome}
      HALTED  it is; one that was halted before answers FENCED like everywhere, and so does one that is archived
--]]
local meta, because = KEYS[1], ARGV[1]
if fenced(meta) or redis.call('HGET', meta, 'fence') == ANY_FENCE then return answer('FENCED') end
redis.call('HSET', meta, 'fence', 'halted', 'halted_because', because)
return answer('HALTED')
