--[[
reserve: turn admissions into held units and orders, each as a whole (L2, U1, V2). Who takes fewer gets as many as a
buyer may still have (Q1).

KEYS  1 meta       hash    the sale
      2 items      hash    stock
      3 counts     hash    tickets by state
      4 tickets    hash    ticket_id -> record
      5 live       hash    sku:buyer -> live ticket
      6 held       hash    sku:buyer -> slots held
      7 leases     zset    ADMITTED ticket -> deadline
      8 reserved   zset    RESERVED ticket -> next redrive
      9 outbox     stream  facts for Kafka
      10* returned  zset    one for each sku
ARGV  1 lease       text
      2 ids         packed list of ticket ids
      3 redrive_ms  int, until the order is sent again if nothing is heard of it
      4 skus        packed list, in the order of the repeated keys
      5 moved       channel of moved tickets
Returns {DONE, [word, ...]}
      DONE      a word for each ticket, in the order of ids
      RESERVED  its units are held under this lease, now or since an earlier call; its order is in the outbox
      DECLINED  it is; the buyer holds too many already, now or since an earlier call
      STALE     the ticket is not ADMITTED under this lease; nothing was changed
      NO_UNIT   not enough units are free; nothing was changed
--]]
-- include ended_fact
-- include order_fact
local keys = {
  meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], held = KEYS[6],
  leases = KEYS[7], reserved = KEYS[8], outbox = KEYS[9],
}
local lease, ids, redrive_ms = ARGV[1], cmsgpack.unpack(ARGV[2]), tonumber(ARGV[3])
local skus, channel = cmsgpack.unpack(ARGV[4]), ARGV[5]
if fenced(keys.meta) then return answer('FENCED') end

local meta = redis.call('HMGET', keys.meta, 'epoch', 'per_buyer_limit', 'sale_id')
local epoch, limit, sale_id = tonumber(meta[1]), tonumber(meta[2]), meta[3]
local now = now_ms()

local stock = {}
for at, sku in ipairs(skus) do
  local high, first = numbers(keys.items, sku, 'high', 'next')
  stock[sku] = { returned = KEYS[9 + at], back = redis.call('ZCARD', KEYS[9 + at]), high = high, first = first, was = first }
end

-- U1: the smallest of those that came back, else the next one never sold.
local function take(item, quantity)
  local units = {}
  for at = 1, quantity do
    if item.back > 0 then
      units[at] = tonumber(redis.call('ZPOPMIN', item.returned)[1])
      item.back = item.back - 1
    else
      units[at] = item.first
      item.first = item.first + 1
    end
  end
  return units
end

-- V2: slots 1..limit, the smallest that are free.
local function free_slots(slots, quantity)
  local used, chosen = {}, {}
  for _, slot in ipairs(slots) do used[slot] = true end
  for slot = 1, limit do
    if #chosen == quantity then break end
    if not used[slot] then chosen[#chosen + 1] = slot end
  end
  return chosen
end

local function reserve(id)
  local ticket = load(keys.tickets, id)
  if not ticket then return 'STALE' end
  if ticket[F.state] == 'RESERVED' and ticket[F.lease] == lease then return 'RESERVED' end
  if ticket[F.state] == 'DECLINED' then return 'DECLINED' end
  if ticket[F.state] ~= 'ADMITTED' or ticket[F.lease] ~= lease then return 'STALE' end
  local item, sku, quantity = stock[ticket[F.sku]], ticket[F.sku], ticket[F.quantity]
  local who = sku .. ':' .. ticket[F.buyer]
  local packed = redis.call('HGET', keys.held, who)
  local slots = packed and cmsgpack.unpack(packed) or {}
  local takes = takes_fewer(ticket) and math.min(quantity, limit - #slots) or quantity
  if takes < 1 or #slots + takes > limit then
    local reason = #slots >= limit and 'already_bought' or 'over_limit'
    move(keys, id, ticket, 'decline', reason, now)
    post_ended(keys.outbox, 'ticket.declined.v1', sale_id, id, ticket, reason, now)
    redis.call('ZREM', keys.leases, id)
    add(keys.items, sku .. ':claims', -quantity)
    return 'DECLINED'
  end
  if item.back + math.max(0, item.high - item.first + 1) < takes then return 'NO_UNIT' end

  ticket[F.units], ticket[F.slots], ticket[F.sends] = take(item, takes), free_slots(slots, takes), 1
  ticket[F.quantity] = takes
  for _, slot in ipairs(ticket[F.slots]) do slots[#slots + 1] = slot end
  redis.call('HSET', keys.held, who, cmsgpack.pack(slots))
  move(keys, id, ticket, 'reserve', '', now)
  redis.call('ZREM', keys.leases, id)
  redis.call('ZADD', keys.reserved, now + redrive_ms, id)
  add(keys.items, sku .. ':claims', -quantity)
  post_order(keys.outbox, sale_id, epoch, id, ticket)
  return 'RESERVED'
end

local words = {}
for at, id in ipairs(ids) do words[at] = reserve(id) end
for sku, item in pairs(stock) do
  if item.first > item.was then redis.call('HSET', keys.items, sku .. ':next', item.first) end
end
write_counts()
publish(channel)
return answer('DONE', words)
