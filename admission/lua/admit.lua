--[[
admit: lease the next tickets in line to one controller. By arrival over all skus, never more than pace, capacity,
unclaimed units (L6) and what is not yet settled allow. Who takes fewer claims what there is (Q1). The same lease again returns the
same tickets (L1). Who has not come since the sale was rebuilt is met once and parked (D3).

KEYS  1 meta       hash    the sale, its pace
      2 items      hash    stock and place numbers
      3 counts     hash    tickets by state
      4 tickets    hash    ticket_id -> record
      5 live       hash    sku:buyer -> live ticket
      6 leases     zset    ADMITTED ticket -> deadline
      7 outbox     stream  facts for Kafka
      8 grant      string  the tickets of this lease
      9 reserved   zset    RESERVED ticket -> next redrive
      10* line      zset    one for each sku
      11* returned  zset    one for each sku
      12* parked    zset    one for each sku
ARGV  1 lease         text, random, made by the caller
      2 lease_ms      int
      3 most          int, tickets a call
      4 outbox_limit  int, facts; a full outbox stops admission (O1)
      5 skus          packed list, in the order of the repeated keys
      6 moved         channel of moved tickets
      7 share         number, above 0 to 1: of the pace that may be used, as the caller judged the last backlog
      8 because       text, why that is less than 1
      9 orders_limit  int, tickets without a verdict; of it, too, only the share
      10 stragglers    int, orders that may be older than the age that is told
Returns {outcome, [[ticket_id, sku, buyer, quantity, arrival, tries], ...], in_flight, [outbox, orders, age_ms], passed}
      ADMITTED     these are leased to the caller for lease_ms; may be none; passed: so many were declined or parked
      NOT_OPEN     the sale admits nobody now
      OUTBOX_FULL  nobody is admitted until the relay has caught up
      ORDERS_FULL  nobody is admitted until some orders have their verdict
--]]
-- include pace
-- include ended_fact
local keys = {
  meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], leases = KEYS[6],
  outbox = KEYS[7], grant = KEYS[8], reserved = KEYS[9],
}
local lease, lease_ms, most, outbox_limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local skus, channel, share, because = cmsgpack.unpack(ARGV[5]), ARGV[6], tonumber(ARGV[7]), ARGV[8]
local orders_limit, stragglers = tonumber(ARGV[9]), tonumber(ARGV[10])
local PAGE = 128 -- of a line, read at a time
if fenced(keys.meta) then return answer('FENCED') end

local function grant_of(id, ticket)
  return { id, ticket[F.sku], ticket[F.buyer], ticket[F.quantity], ticket[F.arrival], ticket[F.tries] }
end

local granted = redis.call('GET', keys.grant)
if granted then
  local again = {}
  for _, id in ipairs(cmsgpack.unpack(granted)) do
    local ticket = load(keys.tickets, id)
    if ticket and ticket[F.state] == 'ADMITTED' and ticket[F.lease] == lease then again[#again + 1] = grant_of(id, ticket) end
  end
  return answer('ADMITTED', again, redis.call('ZCARD', keys.leases), {})
end

local meta = redis.call('HMGET', keys.meta, 'state', 'epoch', 'rate', 'capacity', 'tokens', 'filled_us', 'sale_id',
  'admit_from_us', 'share', 'because')
local state, epoch, rate, capacity = meta[1], tonumber(meta[2]), tonumber(meta[3]), tonumber(meta[4])
local in_flight = redis.call('ZCARD', keys.leases)
if state ~= 'open' then return answer('NOT_OPEN', {}, in_flight, {}) end
-- P3: nobody for a window after the sale was rebuilt. A clock that went back since costs one window more, not for ever.
local from_us = tonumber(meta[8] or 0)
if now_us() < from_us then
  local latest = now_us() + window_of(rate) * 1000000
  if from_us > latest then redis.call('HSET', keys.meta, 'admit_from_us', string.format('%.0f', latest)) end
  return answer('NOT_OPEN', {}, in_flight, {})
end

-- By the next redrive the orders stand by age, until they are sent again: then they wait the longer for the next time
-- the older they are, and stand at the other end. Where both ends are the same few, the near one tells.
local backlog = { redis.call('XLEN', keys.outbox), redis.call('ZCARD', keys.reserved), 0 }
for _, rank in ipairs(backlog[2] > 2 * stragglers and { stragglers, -1 - stragglers } or { stragglers }) do
  local old = redis.call('ZRANGE', keys.reserved, rank, rank)[1]
  if old then backlog[3] = math.max(backlog[3], now_ms() - load(keys.tickets, old)[F.changed_ms]) end
end
if (meta[9] or '1') ~= ARGV[7] or (meta[10] or '') ~= because then
  redis.call('HSET', keys.meta, 'share', ARGV[7], 'because', because) -- for statistics
end
if backlog[1] >= outbox_limit then return answer('OUTBOX_FULL', {}, in_flight, backlog) end
local unsettled = math.floor(orders_limit * share) - backlog[2] - in_flight
if unsettled <= 0 then return answer('ORDERS_FULL', {}, in_flight, backlog) end

local room = math.min(most, unsettled)
if capacity then room = math.min(room, capacity - in_flight) end -- L3
local tokens, time_us
if rate then
  time_us = now_us()
  tokens = fill(rate, tonumber(meta[5]), tonumber(meta[6]), time_us)
  -- At a share of the pace each ticket costs more. One may go into debt, or a slow sale would never admit.
  room = math.min(room, tokens < 1 and 0 or math.max(1, math.floor(tokens * share)))
end

-- A line's head, read in pages. Tickets leave the zset at the end, so reading goes by rank.
local function next_of(line)
  if line.at > #line.page then
    line.page = redis.call('ZRANGE', line.key, line.rank, line.rank + PAGE - 1)
    line.rank, line.at = line.rank + #line.page, 1
  end
  line.id = line.page[line.at]
  line.ticket = line.id and load(keys.tickets, line.id)
  line.at = line.at + 1
end

local lines = {}
for at, sku in ipairs(skus) do
  local claims, high, target_high = numbers(keys.items, sku, 'claims', 'high', 'target')
  local admitted, reserved = numbers(keys.counts, sku, 'ADMITTED', 'RESERVED')
  local line = {
    key = KEYS[9 + at], parked = KEYS[9 + #skus + #skus + at], sku = sku, rank = 0, at = 1, page = {}, gone = {}, claimed = 0, admitted = 0,
    unclaimed = free_units(keys.items, sku, KEYS[9 + #skus + at]) - claims,
    may_come_back = admitted + reserved > 0 or target_high > high,
  }
  if room > 0 and line.unclaimed > 0 then next_of(line) end
  lines[at] = line
end

-- The ticket with the smallest arrival among the heads that there are units for; nil when there is none.
local function first_line()
  local first
  for _, line in ipairs(lines) do
    if line.ticket and (not first or line.ticket[F.arrival] < first.ticket[F.arrival]) then first = line end
  end
  return first
end

local now, out, ids, others = now_ms(), {}, {}, 0 -- others: declined, or not there
local deadline = now + lease_ms
while #out < room and others < most do
  local line = first_line()
  if not line then break end
  local id, ticket = line.id, line.ticket
  local wants, claims = ticket[F.quantity], ticket[F.quantity]
  if takes_fewer(ticket) then claims = math.min(wants, line.unclaimed) end
  if ticket[F.lease] == UNSEEN then
    redis.call('ZADD', line.parked, ticket[F.arrival], id)
    line.gone[#line.gone + 1] = id
    others = others + 1
    next_of(line)
  elseif claims <= line.unclaimed then
    ticket[F.quantity] = claims
    ticket[F.lease], ticket[F.tries] = lease, ticket[F.tries] + 1
    move(keys, id, ticket, 'admit', '', now)
    redis.call('ZADD', keys.leases, deadline, id)
    if ticket[F.back] == 1 then add(keys.items, line.sku .. ':back', -wants) end
    out[#out + 1], ids[#ids + 1] = grant_of(id, ticket), id
    line.gone[#line.gone + 1] = id
    line.claimed, line.unclaimed, line.may_come_back = line.claimed + claims, line.unclaimed - claims, true
    line.admitted = line.admitted + 1
    if line.unclaimed > 0 then next_of(line) else line.ticket = nil end
  elseif line.may_come_back then
    line.ticket = nil -- Q1: it waits in its place, and those behind it
  else
    if ticket[F.back] == 1 then add(keys.items, line.sku .. ':back', -wants) end
    move(keys, id, ticket, 'decline', 'not_enough_left', now)
    post_ended(keys.outbox, 'ticket.declined.v1', meta[7], id, ticket, 'not_enough_left', now)
    line.gone[#line.gone + 1] = id
    others = others + 1
    next_of(line)
  end
end

for _, line in ipairs(lines) do
  if #line.gone > 0 then
    for from = 1, #line.gone, 1000 do
      redis.call('ZREM', line.key, unpack(line.gone, from, math.min(from + 999, #line.gone)))
    end
    add(keys.items, line.sku .. ':claims', line.claimed)
    add(keys.counts, line.sku .. ':admitted_total', line.admitted)
    advance(keys, line.sku, line.key, epoch)
  end
end
if #ids > 0 then redis.call('SET', keys.grant, cmsgpack.pack(ids), 'PX', 2 * lease_ms) end
if rate then
  redis.call('HSET', keys.meta, 'tokens', string.format('%.9g', tokens - #out / share), 'filled_us', string.format('%.0f', time_us))
end
write_counts()
publish(channel)
return answer('ADMITTED', out, in_flight + #out, backlog, others)
