--[[
claim: take the rebuilding of a halted sale in hand, or go on holding it (D2). One at a time: see `refill`, `install`.

A sale that this Redis does not know at all is written down as halted, so that nobody takes it for one that never was.

KEYS  1 meta      hash    the sale
      2 recovery  string  who rebuilds it, on which Redis
ARGV  1 owner    text, another one for each attempt
      2 hold_ms  int, until somebody else may take it in hand
      3 sale_id  text
      4 skus     text, as `meta` has them
      5 first    1 to take it in hand, 0 to go on holding it: whoever let go, even to nobody, begins anew
Returns {outcome, because}
      MINE    the caller has it; why the sale is halted
      OTHERS  somebody else has it, or the caller has let go; nothing was changed
      WHOLE   the sale is not halted; nothing was changed
--]]
local meta, recovery = KEYS[1], KEYS[2]
local owner, hold_ms, sale_id, skus, first = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
if not fenced(meta) then return answer('WHOLE', '') end

local mine, held = owner .. ' ' .. instance(), redis.call('GET', recovery)
-- A hold that was taken on a Redis that is no more holds nothing.
local free = not held or string.match(held, ' (%x+)$') ~= instance()
if held ~= mine and not (first == 1 and free) then return answer('OTHERS', '') end
redis.call('SET', recovery, mine, 'PX', hold_ms)
if not redis.call('HGET', meta, 'skus') then redis.call('HSET', meta, 'sale_id', sale_id, 'skus', skus, 'fence', 'lost') end
local known = redis.call('HMGET', meta, 'fence', 'halted_because')
if known[1] == 'halted' then return answer('MINE', known[2] or '') end
return answer('MINE', known[1] == 'lost' and 'lost' or 'another Redis')
