--[[
read: the records of tickets, for those who own them. Changes nothing.

KEYS  1 meta     hash    the sale
      2 items    hash    place numbers
      3 tickets  hash    ticket_id -> record
      4* line    zset    one for each sku
ARGV  1 ids   packed [[ticket_id, index of its sku from 1], ...]
      2 skus  packed list, in the order of the repeated keys
Returns {DONE, epoch, [[served, older] a sku], [[record, rank] or [] where unknown, ...]}
      DONE  rank is the place from 0 of a WAITING ticket of an earlier epoch, else -1
--]]
local keys = { meta = KEYS[1], items = KEYS[2], tickets = KEYS[3] }
local ids, skus = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
if fenced(keys.meta) then return answer('FENCED') end

local epoch = tonumber(redis.call('HGET', keys.meta, 'epoch'))
local results, places = {}, {}
for at, each in ipairs(ids) do
  local ticket = load(keys.tickets, each[1])
  local rank = -1
  if ticket and ticket[F.state] == 'WAITING' and ticket[F.arrival] < epoch * EPOCH then
    rank = redis.call('ZRANK', KEYS[3 + each[2]], each[1]) or -1
  end
  results[at] = ticket and { ticket, rank } or {}
end
for at, sku in ipairs(skus) do
  local older = epoch > 0 and redis.call('ZCOUNT', KEYS[3 + at], '-inf', before_epoch(epoch)) or 0
  places[at] = { numbers(keys.items, sku, 'served'), older }
end
return answer('DONE', epoch, places, results)
