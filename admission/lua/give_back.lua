--[[
give_back: a controller hands admitted tickets back undecided. They keep their places, and the try does not count (L5).

KEYS  1 meta     hash  the sale
      2 items    hash  claims
      3 counts   hash  tickets by state
      4 tickets  hash  ticket_id -> record
      5 live     hash  sku:buyer -> live ticket
      6 leases   zset  ADMITTED ticket -> deadline
      7* line    zset  one for each sku
ARGV  1 lease  text
      2 ids    packed list of ticket ids
      3 skus   packed list, in the order of the repeated keys
      4 moved  channel of moved tickets
Returns {DONE, [word, ...]}
      DONE     a word for each ticket, in the order of ids
      WAITING  it is back in its place; now or since an earlier call
      STALE    the ticket is not ADMITTED under this lease; nothing was changed
--]]
-- include requeue
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], leases = KEYS[6] }
local lease, ids, skus, channel = ARGV[1], cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]), ARGV[4]
if fenced(keys.meta) then return answer('FENCED') end

local lines = {}
for at, sku in ipairs(skus) do lines[sku] = KEYS[6 + at] end
local now, words = now_ms(), {}
for at, id in ipairs(ids) do
  local ticket = load(keys.tickets, id)
  if ticket and ticket[F.state] == 'ADMITTED' and ticket[F.lease] == lease then
    ticket[F.tries] = ticket[F.tries] - 1
    requeue(keys, lines[ticket[F.sku]], id, ticket, now)
    words[at] = 'WAITING'
  else
    words[at] = ticket and ticket[F.state] == 'WAITING' and 'WAITING' or 'STALE'
  end
end
write_counts()
publish(channel)
return answer('DONE', words)
