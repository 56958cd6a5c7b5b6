--[[
refill: write a part of a halted sale anew (D3). Nobody reads it before `install`; a crash leaves a sale that is halted.

Records are overwritten one by one and each by what it would become anyway, so that the next attempt may begin from
whatever there is. All that is worked out from records is thrown away first. Serials off sale are not: of a change that Postgres
does not know yet they are found here alone.

KEYS  1 meta      hash    the sale
      2 recovery  string  who rebuilds it, on which Redis
      3 tickets   hash    ticket_id -> record
      4 live      hash    sku:buyer -> live ticket
      5 held      hash    sku:buyer -> slots held
      6 leases    zset    ADMITTED ticket -> deadline
      7 reserved  zset    RESERVED ticket -> next redrive
      8* line       zset  one for each sku
      9* parked     zset  one for each sku
      10* returned   zset  one for each sku
      11* withdrawn  set   one for each sku
ARGV  1 owner    text
      2 hold_ms  int
      3 clear    1 to throw away what is worked out from records, else 0
      4 part     packed [tickets, live, held, reserved, line, returned, withdrawn, put_back], each a list of entries
      5 skus     packed list, in the order of the repeated keys
Returns {outcome}
      DONE  it is written; the same part again changes nothing
      LOST  the caller has the sale in hand no more; nothing was changed
--]]
-- include in_hand
local keys = { meta = KEYS[1], recovery = KEYS[2], tickets = KEYS[3], live = KEYS[4], held = KEYS[5], leases = KEYS[6], reserved = KEYS[7] }
local owner, hold_ms, clear = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local part, skus = cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
if not in_hand(keys.meta, keys.recovery, owner, hold_ms) then return answer('LOST') end

local lines, returned, withdrawn = {}, {}, {}
for at = 1, #skus do
  lines[at], returned[at], withdrawn[at] = KEYS[7 + at], KEYS[7 + #skus + #skus + at], KEYS[7 + #skus + #skus + #skus + at]
  if clear == 1 then redis.call('UNLINK', lines[at], KEYS[7 + #skus + at], returned[at]) end
end
if clear == 1 then redis.call('UNLINK', keys.live, keys.held, keys.leases, keys.reserved) end
for _, each in ipairs(part[1]) do redis.call('HSET', keys.tickets, each[1], cmsgpack.pack(each[2])) end
for _, each in ipairs(part[2]) do redis.call('HSET', keys.live, each[1], each[2]) end
for _, each in ipairs(part[3]) do redis.call('HSET', keys.held, each[1], cmsgpack.pack(each[2])) end
for _, id in ipairs(part[4]) do redis.call('ZADD', keys.reserved, 0, id) end -- due: sent again with the new epoch (O3)
for _, each in ipairs(part[5]) do redis.call('ZADD', lines[each[1]], each[2], each[3]) end
for _, each in ipairs(part[6]) do redis.call('ZADD', returned[each[1]], each[2], each[2]) end
for _, each in ipairs(part[7]) do redis.call('SADD', withdrawn[each[1]], each[2]) end
for _, each in ipairs(part[8]) do redis.call('SREM', withdrawn[each[1]], each[2]) end
return answer('DONE')
