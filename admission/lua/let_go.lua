--[[
let_go: an attempt to rebuild a sale has failed, and the next one need not wait until its hold ends by itself (D2).

KEYS  1 meta      hash    the sale
      2 recovery  string  who rebuilds it, on which Redis
ARGV  1 owner     text
      2 again_ms  int, until anybody may take it in hand
Returns {outcome}
      DONE  it may be taken in hand then; a second call begins that time anew
      LOST  the caller has the sale in hand no more, or it is not halted; nothing was changed
--]]
-- include in_hand
local meta, recovery, owner, again_ms = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
if not in_hand(meta, recovery, owner, again_ms) then return answer('LOST') end
return answer('DONE')
