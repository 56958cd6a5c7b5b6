--[[
mend: put right what reconcile found wrong and is safe to put right, each only if it is still so at this instant.

What cannot be seen here, that Postgres has not sold the unit or the slot, the caller asks after a first call that only
looks: a unit in no hand, and a slot of nobody, can be taken by nobody until the sale is rebuilt, so what held then holds
as long as the epoch does.

KEYS  1 meta        hash  the sale
      2 items       hash  stock
      3 tickets     hash  ticket_id -> record
      4 live        hash  sku:buyer -> live ticket
      5 held        hash  sku:buyer -> slots held
      6 reserved    zset  RESERVED ticket -> next redrive
      7* returned   zset  one for each sku
      8* withdrawn  set   one for each sku
ARGV  1 faults  packed [[kind, sku, subject, number], ...]: unit_lost and unit_free with a serial, slot_lost and
                slot_free with a buyer and a slot, order_unsent with a ticket
      2 epoch   text, that the look told, to mend; empty to look
      3 skus    packed list, in the order of the repeated keys
Returns {DONE, [word, ...], epoch}
      DONE    a word for each fault
      STANDS  it is so; only asked
      MENDED  it was so, and is put right
      GONE    it is not so, or the sale was rebuilt since the look
--]]
local keys = { meta = KEYS[1], items = KEYS[2], tickets = KEYS[3], live = KEYS[4], held = KEYS[5], reserved = KEYS[6] }
local faults, looked_at, skus = cmsgpack.unpack(ARGV[1]), ARGV[2], cmsgpack.unpack(ARGV[3])
if fenced(keys.meta) then return answer('FENCED') end

local returned, withdrawn = {}, {}
for at, sku in ipairs(skus) do returned[sku], withdrawn[sku] = KEYS[6 + at], KEYS[6 + #skus + at] end

local function has(list, number)
  for at, each in ipairs(list) do
    if each == number then return at end
  end
end

-- Serials that orders under way hold, by sku; read once, when a fault asks for it.
local in_orders
local function held_by_an_order(sku, serial)
  if not in_orders then
    in_orders = {}
    for _, id in ipairs(redis.call('ZRANGE', keys.reserved, 0, -1)) do
      local ticket = load(keys.tickets, id)
      for _, unit in ipairs(ticket and ticket[F.units] or {}) do in_orders[ticket[F.sku] .. ':' .. unit] = true end
    end
  end
  return in_orders[sku .. ':' .. serial]
end

local function slots_of(who)
  local packed = redis.call('HGET', keys.held, who)
  return packed and cmsgpack.unpack(packed) or {}
end

local function keep_slots(who, slots)
  if #slots == 0 then redis.call('HDEL', keys.held, who) else redis.call('HSET', keys.held, who, cmsgpack.pack(slots)) end
end

-- For each kind: whether it is so, and how it is put right.
local KINDS = {
  unit_lost = {
    function(sku, serial)
      return serial < numbers(keys.items, sku, 'next') and not redis.call('ZSCORE', returned[sku], serial)
        and redis.call('SISMEMBER', withdrawn[sku], serial) == 0 and not held_by_an_order(sku, serial)
    end,
    function(sku, serial) redis.call('ZADD', returned[sku], serial, serial) end,
  },
  unit_free = {
    function(sku, serial) return redis.call('ZSCORE', returned[sku], serial) end,
    function(sku, serial) redis.call('ZREM', returned[sku], serial) end,
  },
  slot_lost = {
    function(sku, buyer, slot)
      local id = redis.call('HGET', keys.live, sku .. ':' .. buyer)
      local ticket = id and load(keys.tickets, id)
      return has(slots_of(sku .. ':' .. buyer), slot) and not (ticket and has(ticket[F.slots], slot))
    end,
    function(sku, buyer, slot)
      local slots = slots_of(sku .. ':' .. buyer)
      table.remove(slots, has(slots, slot))
      keep_slots(sku .. ':' .. buyer, slots)
    end,
  },
  slot_free = {
    function(sku, buyer, slot) return not has(slots_of(sku .. ':' .. buyer), slot) end,
    function(sku, buyer, slot)
      local slots = slots_of(sku .. ':' .. buyer)
      slots[#slots + 1] = slot
      keep_slots(sku .. ':' .. buyer, slots)
    end,
  },
  order_unsent = {
    function(_, id)
      local ticket = load(keys.tickets, id)
      return ticket and ticket[F.state] == 'RESERVED' and not redis.call('ZSCORE', keys.reserved, id)
    end,
    function(_, id) redis.call('ZADD', keys.reserved, now_ms(), id) end, -- and redrive sends it
  },
}

local words, epoch = {}, redis.call('HGET', keys.meta, 'epoch')
local mending, same = looked_at ~= '', looked_at == '' or looked_at == epoch
for at, fault in ipairs(faults) do
  local is_so, put_right = unpack(KINDS[fault[1]])
  if not same or not is_so(fault[2], fault[3], fault[4]) then
    words[at] = 'GONE'
  elseif mending then
    put_right(fault[2], fault[3], fault[4])
    words[at] = 'MENDED'
  else
    words[at] = 'STANDS'
  end
end
return answer('DONE', words, epoch)
