--[[
archive: a sale that was closed long enough goes to Postgres, its tickets in batches, and leaves its counters here (C2).

One batch at a time: posted, acknowledged and unlinked (unlink.lua), then the next; what nothing is heard of is posted
again. Then Postgres is told that the sale is archived, and when it knows, everything but meta, items and counts goes.

KEYS  1 meta        hash    the sale
      2 items       hash    stock
      3 tickets     hash    ticket_id -> record
      4 live        hash    empty by now
      5 held        hash    sku:buyer -> slots held
      6 aliases     hash    lost ticket -> the ticket that answers
      7 outbox      stream  facts for Kafka
      8 archive     string  the batch under way
      9* returned   zset    one for each sku
      10* withdrawn  set    one for each sku
ARGV  1 batch         text, random, made by the caller: what a new batch is called
      2 most          int, tickets a batch
      3 keep_ms       int, from the closing on
      4 again_ms      int, until what nothing is heard of is posted again
      5 outbox_limit  int, facts
      6 skus          packed list, in the order of the repeated keys
Returns {outcome}
      NOT_CLOSED  the sale is not closed; nothing was changed
      NOT_DUE     it was closed not long enough ago; nothing was changed
      POSTED      a batch, or the last change of the sale, is in the outbox
      WAITING     for Postgres, or for room in the outbox; nothing was changed
      ARCHIVED    only meta, items and counts are left, now or since an earlier call
--]]
-- include sale_fact
local keys = {
  meta = KEYS[1], items = KEYS[2], tickets = KEYS[3], live = KEYS[4], held = KEYS[5], aliases = KEYS[6],
  outbox = KEYS[7], archive = KEYS[8],
}
local batch, most, keep_ms, again_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local outbox_limit, skus = tonumber(ARGV[5]), cmsgpack.unpack(ARGV[6])
if fenced(keys.meta) then return answer('FENCED') end

local meta = redis.call(
  'HMGET', keys.meta, 'state', 'closed_ms', 'sale_id', 'version', 'acked', 'posted_ms', 'closing', 'fence'
)
if meta[8] == ANY_FENCE then return answer('ARCHIVED') end
if meta[1] ~= 'closed' then return answer('NOT_CLOSED') end
local now, version, waiting = now_ms(), tonumber(meta[4]), redis.call('XLEN', keys.outbox)
if now < tonumber(meta[2]) + keep_ms then return answer('NOT_DUE') end
if waiting >= outbox_limit then return answer('WAITING') end

-- A clock that went back must not silence it until it has caught up.
local function unheard(posted_ms)
  return now < posted_ms or posted_ms + again_ms <= now
end

local packed = redis.call('GET', keys.archive)
local under_way = packed and cmsgpack.unpack(packed)
if under_way and not unheard(under_way[2]) then return answer('WAITING') end
local ids = under_way and under_way[3] or redis.call('HRANDFIELD', keys.tickets, most)
if #ids > 0 then
  batch = under_way and under_way[1] or batch
  local ends = {}
  for at, record in ipairs(redis.call('HMGET', keys.tickets, unpack(ids))) do
    local ticket = record and cmsgpack.unpack(record) -- a batch of before a rebuild may name tickets that were lost
    ends[#ends + 1] = ticket and {
      ticket_id = ids[at], outcome = ticket[F.state], sku = ticket[F.sku], buyer_id = ticket[F.buyer],
      quantity = ticket[F.quantity], arrival = ticket[F.arrival], reason = ticket[F.reason], at_ms = ticket[F.changed_ms],
    } or nil
  end
  redis.call('HSETNX', keys.meta, 'archived_ms', now)
  post(keys.outbox, { type = 'tickets.archived.v1', sale_id = meta[3], batch = batch, tickets = ends })
  redis.call('SET', keys.archive, cmsgpack.pack({ batch, now, ids }))
  return answer('POSTED')
end

if meta[7] ~= 'archived' then
  redis.call('HSET', keys.meta, 'closing', 'archived')
  change_sale(keys, skus, slice(8 + #skus, #skus), 'archive', '', now)
  return answer('POSTED')
end
if tonumber(meta[5]) < version then
  if not unheard(tonumber(meta[6])) then return answer('WAITING') end
  post_sale(keys, skus, slice(8 + #skus, #skus), 'again', '', now, version)
  return answer('POSTED')
end
if waiting > 0 then return answer('WAITING') end

for at, sku in ipairs(skus) do
  local returned = KEYS[8 + at]
  redis.call('HSET', keys.items, sku .. ':unsold', redis.call('ZCARD', returned))
  redis.call('UNLINK', returned, KEYS[8 + #skus + at])
end
redis.call('UNLINK', keys.live, keys.held, keys.aliases, keys.outbox)
redis.call('HSET', keys.meta, 'fence', ANY_FENCE)
return answer('ARCHIVED')
