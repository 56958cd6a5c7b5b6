--[[
sale_change: what an operator, or the sale's own clock, does to a sale. Doing it twice changes nothing more.

KEYS  1 meta        hash    the sale
      2 items       hash    stock
      3 outbox      stream  facts for Kafka
      4* withdrawn  set     one for each sku
ARGV  1 action  open, pause, resume, end or patch
      2 fields  packed map of the fields of meta to set, all text; for patch
      3 reason  text
      4 due     field of meta: the time that must have come by now; or empty
      5 skus    packed list, in the order of the repeated keys
Returns {outcome, state, version}
      CHANGED           the sale has it
      SAME              the sale had it already
      NOT_DUE           that time has not come, or there is none any more
      NOT_ACKNOWLEDGED  Postgres does not know the sale yet, so it cannot open (O4)
      ILLEGAL           no such move from this state
--]]
-- include pace
-- include sale_fact
local keys = { meta = KEYS[1], items = KEYS[2], outbox = KEYS[3] }
local action, fields, reason, due = ARGV[1], cmsgpack.unpack(ARGV[2]), ARGV[3], ARGV[4]
local skus = cmsgpack.unpack(ARGV[5])
if fenced(keys.meta) then return answer('FENCED') end

local MOVE = {
  open = { draft = 'open' },
  pause = { open = 'paused' },
  resume = { paused = 'open' },
  ['end'] = { draft = 'ended', open = 'ended', paused = 'ended' },
}
local meta = redis.call('HMGET', keys.meta, 'state', 'version', 'acked', 'rate', 'tokens', 'filled_us')
local state, version, rate = meta[1], tonumber(meta[2]), tonumber(meta[4])

if action ~= 'patch' then
  local to = MOVE[action][state]
  for _, reached in pairs(MOVE[action]) do
    if state == reached then return answer('SAME', state, version) end
  end
  if action == 'end' and state == 'closed' then return answer('SAME', state, version) end
  if not to then return answer('ILLEGAL', state, version) end
  -- Asked again here: the operator may have moved it since the caller looked, and an end cannot be undone.
  local at = due ~= '' and tonumber(redis.call('HGET', keys.meta, due) or '')
  if due ~= '' and (not at or now_ms() < at) then return answer('NOT_DUE', state, version) end
  if action == 'open' and tonumber(meta[3]) < 1 then return answer('NOT_ACKNOWLEDGED', state, version) end
  fields = { state = to }
elseif state == 'ended' or state == 'closed' then
  return answer('ILLEGAL', state, version)
end

local changed = false
for field, text in pairs(fields) do
  if redis.call('HGET', keys.meta, field) ~= text then changed = true end
end
if not changed then return answer('SAME', state, version) end

if rate and fields.rate and tonumber(fields.rate) ~= rate then -- P3: settle at the old rate first
  local now = now_us()
  redis.call('HSET', keys.meta, 'tokens', string.format('%.9g', fill(rate, tonumber(meta[5]), tonumber(meta[6]), now)))
  redis.call('HSET', keys.meta, 'filled_us', string.format('%.0f', now))
end
for field, text in pairs(fields) do redis.call('HSET', keys.meta, field, text) end
version = change_sale(keys, skus, slice(3, #skus), action, reason, now_ms())
return answer('CHANGED', fields.state or state, version)
