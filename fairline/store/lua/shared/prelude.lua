-- Shared by every script: identity of the server, records, moves, counts. Two tables stand before it, written by
-- Python: F (field of a ticket record -> its index) and MOVES ("STATE:event" -> STATE).

local EPOCH = 1099511627776 -- 2^40: score = epoch * 2^40 + n (R1)
local UNSEEN = 'unseen' -- lease of a WAITING ticket whose buyer has not come since the sale was rebuilt (D3)

-- The scores of earlier epochs end here, exclusively. Not by '..', which keeps 14 digits: too few from epoch 91 on.
local function before_epoch(epoch)
  return string.format('(%.0f', epoch * EPOCH)
end

local function answer(...)
  return cmsgpack.pack({ ... })
end

-- D1: master_replid differs after every restart and promotion, run_id and the script cache do not.
local function instance()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end

-- An archived sale changes no more, so that any Redis may speak for it (C2).
local ANY_FENCE = 'archived'

local function fenced(meta)
  local fence = redis.call('HGET', meta, 'fence')
  return fence ~= ANY_FENCE and fence ~= instance()
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function load(tickets, id)
  local packed = redis.call('HGET', tickets, id)
  return packed and cmsgpack.unpack(packed)
end

-- asked: what was asked for, where fewer units are fine too (Q1); else 0
local function new_ticket(sku, buyer, quantity, asked, arrival, number, now)
  local ticket = {}
  ticket[F.state], ticket[F.sku], ticket[F.buyer], ticket[F.quantity] = 'WAITING', sku, buyer, quantity
  ticket[F.arrival], ticket[F.number], ticket[F.lease], ticket[F.tries] = arrival, number, '', 0
  ticket[F.back], ticket[F.units], ticket[F.slots], ticket[F.reason] = 0, {}, {}, ''
  ticket[F.joined_ms], ticket[F.changed_ms], ticket[F.sends], ticket[F.asked] = now, now, 0, asked
  return ticket
end

-- Where a ticket goes by an event, or nil: callers check before their first write (L7).
local function target(ticket, event)
  return MOVES[ticket[F.state] .. ':' .. event]
end

local function live_state(state)
  return state == 'WAITING' or state == 'ADMITTED' or state == 'RESERVED'
end

-- Q1: whether this buyer takes fewer units where there are fewer. How many were asked for is kept then.
local function takes_fewer(ticket)
  return (ticket[F.asked] or 0) > 0
end

-- Numbers of an items hash, 0 where there is none.
local function numbers(items, sku, ...)
  local fields = {}
  for at, name in ipairs({ ... }) do fields[at] = sku .. ':' .. name end
  local found = redis.call('HMGET', items, unpack(fields))
  for at = 1, #fields do found[at] = tonumber(found[at] or 0) end
  return unpack(found)
end

-- Counts are gathered while a script moves tickets and written once at its end (C1).
local gathered, order = {}, {}
local function add(key, field, by)
  local slot = key .. '\n' .. field
  local entry = gathered[slot]
  if not entry then
    entry = { key, field, 0 }
    gathered[slot] = entry
    order[#order + 1] = entry
  end
  entry[3] = entry[3] + by
end

local function write_counts()
  for _, entry in ipairs(order) do
    if entry[3] ~= 0 then redis.call('HINCRBY', entry[1], entry[2], entry[3]) end
  end
end

-- Put a ticket into its next state: record, counts, the list of those to tell. Never called before all checks are done.
-- counted_as: the reason as statistics tell it, where that is another one.
local moved = {}
local function move(keys, id, ticket, event, reason, now, counted_as)
  local from, to = ticket[F.state], target(ticket, event)
  assert(to, 'no ticket goes from ' .. from .. ' by ' .. event)
  local sku = ticket[F.sku]
  ticket[F.state], ticket[F.reason], ticket[F.changed_ms] = to, reason, now
  if to ~= 'ADMITTED' and to ~= 'RESERVED' then ticket[F.lease] = '' end
  redis.call('HSET', keys.tickets, id, cmsgpack.pack(ticket))
  add(keys.counts, sku .. ':' .. from, -1)
  add(keys.counts, sku .. ':' .. to, 1)
  if not live_state(to) then
    redis.call('HDEL', keys.live, sku .. ':' .. ticket[F.buyer])
    -- statistics tell the declined by reason
    if to == 'DECLINED' then add(keys.counts, sku .. ':DECLINED:' .. (counted_as or reason), 1) end
  end
  moved[#moved + 1] = id
end

-- Told only after it is so: the ids go out with the very script that moved them.
local function publish(channel)
  if #moved > 0 then redis.call('PUBLISH', channel, cmsgpack.pack(moved)) end
end

local function post(outbox, fact)
  redis.call('XADD', outbox, '*', 'fact', cmsgpack.pack(fact))
end

-- served only grows: the line's head minus one, or the last number given where nobody of this epoch waits.
local function advance(keys, sku, line, epoch)
  local head = redis.call('ZRANGEBYSCORE', line, epoch * EPOCH, '+inf', 'LIMIT', 0, 1)[1]
  local served, last = numbers(keys.items, sku, 'served', 'number')
  local now = last
  if head then
    local ticket = load(keys.tickets, head)
    now = ticket[F.number] - 1
  end
  if now > served then redis.call('HSET', keys.items, sku .. ':served', now) end
end

-- Units of a sku that nobody holds (U1); unsold: those that had come back when the sale was archived.
local function free_units(items, sku, returned)
  local high, next_serial, unsold = numbers(items, sku, 'high', 'next', 'unsold')
  return redis.call('ZCARD', returned) + unsold + math.max(0, high - next_serial + 1)
end

-- E1; raising: more stock was asked for and Postgres does not know it yet
local function outlook(free, admitted, reserved, raising)
  if free > 0 then return 'available' end
  if admitted > 0 or reserved > 0 or raising then return 'all_reserved' end
  return 'sold_out'
end
