--[[
readmit: give the buyer of a RELEASED ticket a new one at the old arrival (S2). The old one stays RELEASED.

KEYS  1 meta       hash    the sale
      2 items      hash    stock and place numbers
      3 counts     hash    tickets by state
      4 tickets    hash    ticket_id -> record
      5 live       hash    sku:buyer -> live ticket
      6 held       hash    sku:buyer -> slots held
      7* line      zset    one for each sku
      8* returned  zset    one for each sku
ARGV  1 was   the RELEASED ticket
      2 id    of the new ticket; the same for every readmission of that one, so that there is one
      3 skus  packed list of all skus, in the order of the repeated keys
Returns {outcome}
      READMITTED      the new ticket waits, before those who joined later
      SAME            it was made before
      UNKNOWN         the old ticket is not here (any more)
      NOT_RELEASED    the old ticket has no verdict here yet, or another outcome
      SALE_CLOSED     the sale has ended
      LIVE            the buyer has another live ticket for this sku, and keeps that
      ALREADY_BOUGHT  the buyer holds as many as a buyer may
      OVER_LIMIT      the buyer would hold more than a buyer may
      SOLD_OUT        nothing is free and nothing can come back (E2)
--]]
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], held = KEYS[6] }
local was, id, skus = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3])
if fenced(keys.meta) then return answer('FENCED') end

if load(keys.tickets, id) then return answer('SAME') end
local ticket = load(keys.tickets, was)
if not ticket then return answer('UNKNOWN') end
if ticket[F.state] ~= 'RELEASED' then return answer('NOT_RELEASED') end

local meta = redis.call('HMGET', keys.meta, 'state', 'per_buyer_limit', 'when_sold_out')
if meta[1] == 'ended' or meta[1] == 'closed' then return answer('SALE_CLOSED') end
local sku, quantity = ticket[F.sku], ticket[F.quantity]
local who = sku .. ':' .. ticket[F.buyer]
if redis.call('HEXISTS', keys.live, who) == 1 then return answer('LIVE') end
local slots = redis.call('HGET', keys.held, who)
local holds, limit = slots and #cmsgpack.unpack(slots) or 0, tonumber(meta[2])
if holds >= limit then return answer('ALREADY_BOUGHT') end
if holds + quantity > limit and not takes_fewer(ticket) then return answer('OVER_LIMIT') end

local line, returned
for at, each in ipairs(skus) do
  if each == sku then line, returned = KEYS[6 + at], KEYS[6 + #skus + at] end
end
local high, target_high = numbers(keys.items, sku, 'high', 'target')
local admitted, reserved = numbers(keys.counts, sku, 'ADMITTED', 'RESERVED')
local look = outlook(free_units(keys.items, sku, returned), admitted, reserved, target_high > high)
if look == 'sold_out' and meta[3] == 'close_line' then return answer('SOLD_OUT') end

-- What the buyer wished for and where it stands are kept; it has been admitted before, so its claim stays (U3).
local now = now_ms()
ticket[F.state], ticket[F.reason], ticket[F.lease], ticket[F.tries], ticket[F.sends] = 'WAITING', '', '', 0, 0
ticket[F.units], ticket[F.slots], ticket[F.back], ticket[F.joined_ms], ticket[F.changed_ms] = {}, {}, 1, now, now
redis.call('HSET', keys.tickets, id, cmsgpack.pack(ticket))
redis.call('HSET', keys.live, who, id)
redis.call('ZADD', line, ticket[F.arrival], id)
add(keys.items, sku .. ':back', quantity)
add(keys.counts, sku .. ':joined', 1)
add(keys.counts, sku .. ':WAITING', 1)
write_counts()
return answer('READMITTED')
