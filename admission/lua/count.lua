--[[
count: tell Postgres from time to time how many tickets stand where, so that statistics outlive Redis.

KEYS  1 meta    hash    the sale
      2 counts  hash    tickets by state and running totals
      3 outbox  stream  facts for Kafka
ARGV  1 every_ms      int, milliseconds between two such facts
      2 outbox_limit  int, facts
Returns {outcome}
      POSTED   the counts are in the outbox
      SAME     nothing was counted since the last time
      NOT_DUE  too early, or the outbox is full, or the sale is closed: its last counts were told before (E4)
--]]
-- include count_fact
local keys = { meta = KEYS[1], counts = KEYS[2], outbox = KEYS[3] }
local every_ms, outbox_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
if fenced(keys.meta) then return answer('FENCED') end

local meta, now = redis.call('HMGET', keys.meta, 'sale_id', 'epoch', 'counted_ms', 'state'), now_ms()
local last = tonumber(meta[3] or 0)
-- A clock that went back must not silence the counts until it has caught up.
local due = meta[4] ~= 'closed' and (now < last or last + every_ms <= now)
if not due or redis.call('XLEN', keys.outbox) >= outbox_limit then return answer('NOT_DUE') end
return answer(post_counts(keys, meta[1], tonumber(meta[2]), now) and 'POSTED' or 'SAME')
