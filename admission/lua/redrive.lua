--[[
redrive: send again what nothing was heard of: orders of RESERVED tickets, the last change of the sale (O3, V8).

KEYS  1 meta        hash    the sale
      2 items       hash    stock
      3 tickets     hash    ticket_id -> record
      4 reserved    zset    RESERVED ticket -> next redrive
      5 outbox      stream  facts for Kafka
      6* withdrawn  set     one for each sku
ARGV  1 most          int, orders a call
      2 redrive_ms    int, doubling at each try
      3 longest_ms    int, what it doubles up to
      4 outbox_limit  int, facts
      5 skus          packed list, in the order of the repeated keys
Returns {DONE, orders, changes}
      DONE  so many were put into the outbox again
--]]
-- include order_fact
-- include sale_fact
local keys = { meta = KEYS[1], items = KEYS[2], tickets = KEYS[3], reserved = KEYS[4], outbox = KEYS[5] }
local most, redrive_ms, longest_ms, outbox_limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local skus = cmsgpack.unpack(ARGV[5])
if fenced(keys.meta) then return answer('FENCED') end

local meta = redis.call('HMGET', keys.meta, 'sale_id', 'epoch', 'version', 'acked', 'posted_ms')
local now, orders, changes = now_ms(), 0, 0
local room = math.min(most, outbox_limit - redis.call('XLEN', keys.outbox))
if room <= 0 then return answer('DONE', 0, 0) end -- what is not sent yet need not be sent again

-- A clock that went back must not silence anything until it has caught up: nobody waits for longer than longest_ms.
local due = redis.call('ZRANGEBYSCORE', keys.reserved, '-inf', now, 'LIMIT', 0, room)
if #due == 0 then due = redis.call('ZRANGEBYSCORE', keys.reserved, now + longest_ms + 1, '+inf', 'LIMIT', 0, room) end
for _, id in ipairs(due) do
  local ticket = load(keys.tickets, id)
  ticket[F.sends] = ticket[F.sends] + 1
  redis.call('HSET', keys.tickets, id, cmsgpack.pack(ticket))
  redis.call('ZADD', keys.reserved, now + math.min(longest_ms, redrive_ms * 2 ^ (ticket[F.sends] - 1)), id)
  post_order(keys.outbox, meta[1], tonumber(meta[2]), id, ticket)
  orders = orders + 1
end
local posted_ms = tonumber(meta[5])
if tonumber(meta[4]) < tonumber(meta[3]) and (now < posted_ms or posted_ms + redrive_ms <= now) then
  post_sale(keys, skus, slice(5, #skus), 'again', '', now, tonumber(meta[3]))
  changes = 1
end
return answer('DONE', orders, changes)
