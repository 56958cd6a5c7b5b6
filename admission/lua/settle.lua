--[[
settle: verdicts of Postgres. Forced on a live ticket, without effect on a terminal or unknown one (S1, U2, U4, V8).

KEYS  1 meta       hash  the sale
      2 items      hash  stock
      3 counts     hash  tickets by state
      4 tickets    hash  ticket_id -> record
      5 live       hash  sku:buyer -> live ticket
      6 held       hash  sku:buyer -> slots held
      7 leases     zset  ADMITTED ticket -> deadline
      8 reserved   zset  RESERVED ticket -> next redrive
      9* line      zset  one for each sku
      10* returned  zset  one for each sku
      11* parked    zset  one for each sku
ARGV  1 verdicts  packed [[ticket_id, confirm or release, units, slots, reason], ...]
      2 skus      packed list, in the order of the repeated keys
      3 moved     channel of moved tickets
Returns {outcome, settled}
      DONE    so many tickets reached their last state; the others had one already
      HALTED  likewise, and a unit was sold that Redis took for free: data was lost, the sale is halted (U4)
--]]
local keys = {
  meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], held = KEYS[6],
  leases = KEYS[7], reserved = KEYS[8],
}
local verdicts, skus, channel = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2]), ARGV[3]
if fenced(keys.meta) then return answer('FENCED') end

local epoch = tonumber(redis.call('HGET', keys.meta, 'epoch'))
local now, settled, halted, touched = now_ms(), 0, false, {}
local lines, returned, parked = {}, {}, {}
for at, sku in ipairs(skus) do
  lines[sku], returned[sku], parked[sku] = KEYS[8 + at], KEYS[8 + #skus + at], KEYS[8 + #skus + #skus + at]
end

local function set_of(list)
  local set = {}
  for _, value in ipairs(list) do set[value] = true end
  return set
end

-- A unit that Postgres has sold is not free, whatever Redis thought. Those skipped are, as far as they are on sale.
local function mark_sold(sku, unit)
  local first, high = numbers(keys.items, sku, 'next', 'high')
  if unit < first then
    redis.call('ZREM', returned[sku], unit)
  else
    for serial = first, math.min(unit - 1, high) do redis.call('ZADD', returned[sku], serial, serial) end
    redis.call('HSET', keys.items, sku .. ':next', unit + 1)
  end
end

local function slots_of(who)
  local packed = redis.call('HGET', keys.held, who)
  return packed and cmsgpack.unpack(packed) or {}
end

local function keep_slots(who, set)
  local slots = {}
  for slot in pairs(set) do slots[#slots + 1] = slot end
  if #slots == 0 then redis.call('HDEL', keys.held, who) else redis.call('HSET', keys.held, who, cmsgpack.pack(slots)) end
end

local function settle(id, ticket, event, units, slots, reason)
  local sku, quantity = ticket[F.sku], ticket[F.quantity]
  local who = sku .. ':' .. ticket[F.buyer]
  if ticket[F.state] == 'WAITING' then
    redis.call('ZREM', lines[sku], id)
    redis.call('ZREM', parked[sku], id)
    if ticket[F.back] == 1 then add(keys.items, sku .. ':back', -quantity) end
    touched[sku] = true
  elseif ticket[F.state] == 'ADMITTED' then
    redis.call('ZREM', keys.leases, id)
    add(keys.items, sku .. ':claims', -quantity)
  else
    redis.call('ZREM', keys.reserved, id)
  end

  local sold, taken = set_of(event == 'confirm' and units or {}), set_of(ticket[F.units])
  local lost = event == 'release' and reason == 'unit_taken'
  for unit in pairs(taken) do
    if not sold[unit] and not lost then redis.call('ZADD', returned[sku], unit, unit) end
  end
  for unit in pairs(sold) do
    if not taken[unit] then mark_sold(sku, unit) end
  end
  local kept = set_of(slots_of(who))
  for _, slot in ipairs(ticket[F.slots]) do kept[slot] = nil end
  if event == 'confirm' then
    for _, slot in ipairs(slots) do kept[slot] = true end
    ticket[F.units], ticket[F.slots], ticket[F.quantity] = units, slots, #units
  else
    ticket[F.units], ticket[F.slots] = {}, {}
    halted = halted or lost
  end
  keep_slots(who, kept)
  move(keys, id, ticket, event, reason, now)
end

for _, verdict in ipairs(verdicts) do
  local id, event = verdict[1], verdict[2]
  local ticket = load(keys.tickets, id)
  if ticket and target(ticket, event) then
    settle(id, ticket, event, verdict[3], verdict[4], verdict[5])
    settled = settled + 1
  end
end
for sku in pairs(touched) do advance(keys, sku, lines[sku], epoch) end
write_counts()
publish(channel)
if halted then redis.call('HSET', keys.meta, 'fence', 'halted', 'halted_because', 'unit_taken') end
return answer(halted and 'HALTED' or 'DONE', settled)
