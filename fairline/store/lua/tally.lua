--[[
tally: add what a gateway counted without asking Redis.

KEYS  1 meta    hash  the sale
      2 counts  hash  running totals
ARGV  1 counted  packed map of field -> number
Returns {outcome}
      DONE  they are in the totals
--]]
local meta, counts, counted = KEYS[1], KEYS[2], cmsgpack.unpack(ARGV[1])
if fenced(meta) then return answer('FENCED') end
for field, number in pairs(counted) do redis.call('HINCRBY', counts, field, number) end
return answer('DONE')
