--[[
unlink: Postgres has a batch of an archived sale's tickets; they need no record here any more (C2).

KEYS  1 meta     hash    the sale
      2 tickets  hash    ticket_id -> record
      3 archive  string  the batch under way
ARGV  1 batch  text
Returns {outcome, unlinked}
      DONE  so many tickets; the next batch may be posted
      OLD   another batch is under way, or none, or the sale was rebuilt and is not closed yet; nothing was changed
--]]
local keys, batch = { meta = KEYS[1], tickets = KEYS[2], archive = KEYS[3] }, ARGV[1]
if fenced(keys.meta) then return answer('FENCED') end

local packed = redis.call('GET', keys.archive)
local under_way = packed and cmsgpack.unpack(packed)
local closed = redis.call('HGET', keys.meta, 'state') == 'closed'
if not closed or not under_way or under_way[1] ~= batch then return answer('OLD', 0) end
redis.call('HDEL', keys.tickets, unpack(under_way[3]))
redis.call('DEL', keys.archive)
return answer('DONE', #under_way[3])
