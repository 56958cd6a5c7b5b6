--[[
join: give each joiner the next place in line, or its live ticket, or a refusal (R1, R2).

KEYS  1 meta       hash    the sale
      2 items      hash    stock and place numbers
      3 counts     hash    tickets by state
      4 tickets    hash    ticket_id -> record
      5 live       hash    sku:buyer -> live ticket
      6 held       hash    sku:buyer -> slots held
      7* line      zset    one for each sku
      8* returned  zset    one for each sku
ARGV  1 joins        packed [[ticket_id, index of its sku from 1, buyer, quantity, whether fewer are fine], ...]
      2 skus         packed list, in the order of the repeated keys
      3 max_waiting  int, tickets of the sale that may wait, in all its lines together
      4 sale_skus    packed list of all skus of the sale
Returns {DONE, epoch, [[served, older] a sku], [[word, ticket_id, record, rank], ...]}
      DONE            each join has its word
      JOINED          a new ticket
      SAME            this very request made that ticket before; also told when it is terminal
      KEY_REUSED      this very request made a ticket before, asking for something else
      LIVE            the buyer has another live ticket for this sku
      NOT_OPEN        the sale has not opened
      SALE_CLOSED     the sale has ended
      SOLD_OUT        nothing is free and nothing can come back (E2)
      ALREADY_BOUGHT  the buyer holds as many as a buyer may
      OVER_LIMIT      the buyer would hold more than a buyer may
      LINE_FULL       max_waiting tickets of the sale wait
--]]
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], held = KEYS[6] }
local joins, skus, max_waiting = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2]), tonumber(ARGV[3])
local sale_skus = cmsgpack.unpack(ARGV[4])
if fenced(keys.meta) then return answer('FENCED') end

local meta = redis.call('HMGET', keys.meta, 'state', 'epoch', 'per_buyer_limit', 'when_sold_out', 'seq')
local state, epoch, limit, seq = meta[1], tonumber(meta[2]), tonumber(meta[3]), tonumber(meta[5])
local closed = (state == 'draft' and 'NOT_OPEN') or ((state == 'ended' or state == 'closed') and 'SALE_CLOSED')
local now = now_ms()

local lines = {}
for at, sku in ipairs(skus) do
  local line, returned = KEYS[6 + at], KEYS[6 + #skus + at]
  local number, high, target_high = numbers(keys.items, sku, 'number', 'high', 'target')
  local admitted, reserved = numbers(keys.counts, sku, 'ADMITTED', 'RESERVED')
  local look = outlook(free_units(keys.items, sku, returned), admitted, reserved, target_high > high)
  lines[at] = {
    key = line, sku = sku, number = number, joined = 0,
    sold_out = look == 'sold_out' and meta[4] == 'close_line',
  }
end

local waiting, fields = 0, {}
for at, sku in ipairs(sale_skus) do fields[at] = sku .. ':WAITING' end
for _, number in ipairs(redis.call('HMGET', keys.counts, unpack(fields))) do
  waiting = waiting + tonumber(number or 0)
end

local function rank(line, ticket, id)
  if ticket[F.state] ~= 'WAITING' or ticket[F.arrival] >= epoch * EPOCH then return -1 end
  return redis.call('ZRANK', line.key, id) or -1
end

-- An order that was read back from Postgres says how many were bought, and not how many were asked for where fewer were
-- fine. Its ticket was never admitted as far as Redis knows; its buyer finds it all the same (R2).
local function same_wish(ticket, quantity, fewer)
  local ordered = ticket[F.state] == 'CONFIRMED' or ticket[F.state] == 'RELEASED'
  if fewer and ordered and ticket[F.tries] == 0 and not takes_fewer(ticket) then return quantity >= ticket[F.quantity] end
  return takes_fewer(ticket) == fewer and quantity == (fewer and ticket[F.asked] or ticket[F.quantity])
end

local function join(id, line, buyer, quantity, fewer)
  local before = load(keys.tickets, id)
  if before then
    if not same_wish(before, quantity, fewer) then return { 'KEY_REUSED' } end
    return { 'SAME', id, before, rank(line, before, id) }
  end
  local who = line.sku .. ':' .. buyer
  local other = redis.call('HGET', keys.live, who)
  if other then
    local ticket = load(keys.tickets, other)
    return { 'LIVE', other, ticket, rank(line, ticket, other) }
  end
  if closed then return { closed } end
  local slots = redis.call('HGET', keys.held, who)
  local holds = slots and #cmsgpack.unpack(slots) or 0
  if holds >= limit then return { 'ALREADY_BOUGHT' } end
  if holds + quantity > limit then return { 'OVER_LIMIT' } end
  if line.sold_out then return { 'SOLD_OUT' } end
  if waiting >= max_waiting then return { 'LINE_FULL' } end

  seq, waiting = seq + 1, waiting + 1
  line.number, line.joined = line.number + 1, line.joined + 1
  local ticket = new_ticket(line.sku, buyer, quantity, fewer and quantity or 0, epoch * EPOCH + seq, line.number, now)
  redis.call('HSET', keys.tickets, id, cmsgpack.pack(ticket))
  redis.call('HSET', keys.live, who, id)
  redis.call('ZADD', line.key, ticket[F.arrival], id)
  return { 'JOINED', id, ticket, -1 }
end

local results = {}
for at, each in ipairs(joins) do
  local result = join(each[1], lines[each[2]], each[3], each[4], each[5])
  results[at] = result
  local sku = lines[each[2]].sku
  add(keys.counts, sku .. ':asked', 1)
  if #result == 1 then add(keys.counts, sku .. ':refused:' .. string.lower(result[1]), 1) end
end

local places = {}
redis.call('HSET', keys.meta, 'seq', seq)
for at, line in ipairs(lines) do
  if line.joined > 0 then
    redis.call('HSET', keys.items, line.sku .. ':number', line.number)
    add(keys.counts, line.sku .. ':joined', line.joined)
    add(keys.counts, line.sku .. ':WAITING', line.joined)
  end
  local older = epoch > 0 and redis.call('ZCOUNT', line.key, '-inf', before_epoch(epoch)) or 0
  places[at] = { numbers(keys.items, line.sku, 'served'), older }
end
write_counts()
return answer('DONE', epoch, places, results)
