--[[
leave: a buyer gives up a place in line. Only from WAITING (E4).

KEYS  1 meta     hash    the sale
      2 items    hash    place numbers
      3 counts   hash    tickets by state
      4 tickets  hash    ticket_id -> record
      5 live     hash    sku:buyer -> live ticket
      6* line    zset    the line of the ticket's sku
      7* parked  zset    those of that line who are not there
ARGV  1 ticket_id  text
      2 moved      channel of moved tickets
Returns {outcome, record}
      LEFT         the ticket is LEFT; a second call answers the same
      NOT_WAITING  nothing was changed; the record says where the ticket is
      UNKNOWN      no such ticket; no record
--]]
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5] }
local line, parked, id, channel = KEYS[6], KEYS[7], ARGV[1], ARGV[2]
if fenced(keys.meta) then return answer('FENCED') end

local ticket = load(keys.tickets, id)
if not ticket then return answer('UNKNOWN') end
if ticket[F.state] == 'LEFT' then return answer('LEFT', ticket) end
if not target(ticket, 'leave') then return answer('NOT_WAITING', ticket) end

redis.call('ZREM', line, id)
redis.call('ZREM', parked, id)
if ticket[F.back] == 1 then add(keys.items, ticket[F.sku] .. ':back', -ticket[F.quantity]) end
move(keys, id, ticket, 'leave', '', now_ms())
advance(keys, ticket[F.sku], line, tonumber(redis.call('HGET', keys.meta, 'epoch')))
write_counts()
publish(channel)
return answer('LEFT', ticket)
