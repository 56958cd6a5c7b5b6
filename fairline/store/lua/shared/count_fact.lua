-- The counts of a sale at this instant, for Postgres, which learns of most ends of a ticket one by one but not of all.
-- Not twice the same: whether there was anything new.
local function post_counts(keys, sale_id, epoch, now)
  local flat = redis.call('HGETALL', keys.counts)
  local told = redis.sha1hex(cmsgpack.pack(flat))
  local news = redis.call('HGET', keys.meta, 'counted') ~= told
  redis.call('HSET', keys.meta, 'counted', told, 'counted_ms', now)
  if not news or #flat == 0 then return false end
  local counts = {}
  for at = 1, #flat, 2 do counts[flat[at]] = tonumber(flat[at + 1]) end
  post(keys.outbox, { type = 'sale.counted.v1', sale_id = sale_id, epoch = epoch, counts = counts, at_ms = now })
  return true
end
