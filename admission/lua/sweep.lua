--[[
sweep: tell the line that everything is sold, from its tail, asking again each time whether it is true (E1 to E3).

KEYS  1 meta       hash  the sale
      2 items      hash  stock
      3 counts     hash  tickets by state
      4 tickets    hash  ticket_id -> record
      5 live       hash  sku:buyer -> live ticket
      6* line      zset  one for each sku
      7* returned  zset  one for each sku
      8* parked    zset  one for each sku
ARGV  1 most   int, tickets a call, of all skus together
      2 skus   packed list, in the order of the repeated keys
      3 moved  channel of moved tickets
Returns {DONE, swept}
      DONE  so many tickets are SOLD_OUT
--]]
-- include unpark
local keys = { meta = KEYS[1], items = KEYS[2], counts = KEYS[3], tickets = KEYS[4], live = KEYS[5] }
local most, skus, channel = tonumber(ARGV[1]), cmsgpack.unpack(ARGV[2]), ARGV[3]
if fenced(keys.meta) then return answer('FENCED') end

local meta = redis.call('HMGET', keys.meta, 'state', 'when_sold_out', 'epoch')
if (meta[1] ~= 'open' and meta[1] ~= 'paused') or meta[2] ~= 'close_line' then return answer('DONE', 0) end
local now, swept, epoch = now_ms(), 0, tonumber(meta[3])
for at, sku in ipairs(skus) do
  local line, returned = KEYS[5 + at], KEYS[5 + #skus + at]
  local high, target_high = numbers(keys.items, sku, 'high', 'target')
  local admitted, reserved = numbers(keys.counts, sku, 'ADMITTED', 'RESERVED')
  local last = most - swept
  if last > 0 and outlook(free_units(keys.items, sku, returned), admitted, reserved, target_high > high) == 'sold_out' then
    unpark(line, KEYS[5 + #skus + #skus + at], last)
    for _, id in ipairs(redis.call('ZREVRANGE', line, 0, last - 1)) do
      local ticket = load(keys.tickets, id)
      if ticket[F.back] == 1 then add(keys.items, sku .. ':back', -ticket[F.quantity]) end
      redis.call('ZREM', line, id)
      move(keys, id, ticket, 'sell_out', '', now)
      swept = swept + 1
    end
    advance(keys, sku, line, epoch)
  end
end
write_counts()
publish(channel)
return answer('DONE', swept)
