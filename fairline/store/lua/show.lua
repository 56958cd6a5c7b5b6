--[[
show: buyers show the tokens of tickets that were rebuilt or lost. Whoever does is there, and has the old place (D3, D4).

KEYS  1 meta     hash  the sale
      2 items    hash  place numbers
      3 counts   hash  tickets by state
      4 tickets  hash  ticket_id -> record
      5 live     hash  sku:buyer -> live ticket
      6 aliases  hash  lost ticket -> the ticket that answers for it
      7* line    zset  one for each sku
      8* parked  zset  one for each sku
ARGV  1 shown  packed [[ticket_id, index of its sku from 1, buyer, quantity, asked, arrival, number], ...], off tokens
      2 skus   packed list, in the order of the repeated keys
Returns {DONE, epoch, [[served, older] a sku], [[word, ticket_id, record, rank], ...]}
      DONE     each token has its word; a second call finds everything done
      KNOWN    the ticket is there, and its buyer too, now or before
      BACK     the ticket was lost, and stands at its arrival again
      OTHER    the buyer's live ticket took the smaller arrival and answers for this one
      UNKNOWN  no ticket of today is lost under this token; no record
--]]
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5], aliases = KEYS[6] }
local shown, skus = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
if fenced(keys.meta) then return answer('FENCED') end

local meta, now = redis.call('HMGET', keys.meta, 'epoch', 'state'), now_ms()
local epoch, closed = tonumber(meta[1]), meta[2] == 'closed'
local lines = {}
for at, sku in ipairs(skus) do lines[at] = { key = KEYS[6 + at], parked = KEYS[6 + #skus + at], sku = sku } end

-- Only what a rebuilt Redis did not have any more: of an older epoch, given out after the last arrival that was found.
local function is_lost(arrival)
  local of = math.floor(arrival / EPOCH)
  local found = tonumber(redis.call('HGET', keys.meta, 'seq:' .. of) or 0)
  return not closed and of < epoch and arrival - of * EPOCH > found
end

-- The buyer is there. At the smaller arrival if the token has one; an order that is under way keeps its own.
local function seen(line, id, ticket, arrival)
  local earlier = arrival < ticket[F.arrival] and ticket[F.state] ~= 'RESERVED'
  if not live_state(ticket[F.state]) or not (earlier or ticket[F.lease] == UNSEEN) then return end
  if earlier then ticket[F.arrival] = arrival end
  if ticket[F.state] == 'WAITING' then
    ticket[F.lease] = ''
    redis.call('ZREM', line.parked, id)
    redis.call('ZADD', line.key, ticket[F.arrival], id)
    line.moved = true
  end
  redis.call('HSET', keys.tickets, id, cmsgpack.pack(ticket))
end

local function show(id, line, buyer, quantity, asked, arrival, number)
  local answers, ticket, word = id, load(keys.tickets, id), 'KNOWN'
  if not ticket then -- but one that its request made anew answers for itself
    answers, word = redis.call('HGET', keys.aliases, id) or id, 'OTHER'
    ticket = answers ~= id and load(keys.tickets, answers)
  end
  if not ticket and (answers ~= id or not is_lost(arrival)) then return { 'UNKNOWN' } end
  if not ticket then
    local who = line.sku .. ':' .. buyer
    answers = redis.call('HGET', keys.live, who)
    word = answers and 'OTHER' or 'BACK'
    if answers then
      ticket = load(keys.tickets, answers)
      redis.call('HSET', keys.aliases, id, answers)
    else
      answers = id
      ticket = new_ticket(line.sku, buyer, quantity, asked, arrival, number, now)
      ticket[F.lease] = UNSEEN
      redis.call('HSET', keys.live, who, id)
      add(keys.counts, line.sku .. ':joined', 1)
      add(keys.counts, line.sku .. ':WAITING', 1)
    end
  end
  seen(line, answers, ticket, arrival)
  return { word, answers, ticket, -1 }
end

local results = {}
for at, each in ipairs(shown) do
  results[at] = show(each[1], lines[each[2]], each[3], each[4], each[5], each[6], each[7])
end
local places = {}
for at, line in ipairs(lines) do
  if line.moved then advance(keys, line.sku, line.key, epoch) end
  local older = epoch > 0 and redis.call('ZCOUNT', line.key, '-inf', before_epoch(epoch)) or 0
  places[at] = { numbers(keys.items, line.sku, 'served'), older }
end
for at, result in ipairs(results) do
  local ticket = result[3]
  if ticket and ticket[F.state] == 'WAITING' and ticket[F.arrival] < epoch * EPOCH then
    result[4] = redis.call('ZRANK', lines[shown[at][2]].key, result[2]) or -1
  end
end
write_counts()
return answer('DONE', epoch, places, results)
