-- The whole sale after a change, with the next version, for Postgres. high is what it will be once Postgres knows (U3).
-- closing: a state that Postgres is to know before it is so here: closed, archived (E4, C2).
local function post_sale(keys, skus, withdrawn, action, reason, now, version)
  local flat = redis.call('HGETALL', keys.meta)
  local meta = {}
  for at = 1, #flat, 2 do meta[flat[at]] = flat[at + 1] end
  local rows = {}
  local named = cjson.decode(meta.skus) -- [[sku, name], ...] in the order of skus
  for at, sku in ipairs(skus) do
    local stock, target_high, asked = numbers(keys.items, sku, 'stock', 'target', 'version')
    local serials = redis.call('SMEMBERS', withdrawn[at])
    for i = 1, #serials do serials[i] = tonumber(serials[i]) end
    table.sort(serials)
    rows[at] = {
      sku = sku, name = named[at][2], stock = stock, high = target_high, version = asked, withdrawn = serials,
    }
  end
  post(keys.outbox, {
    type = 'sale.changed.v1', sale_id = meta.sale_id, version = version, epoch = tonumber(meta.epoch),
    action = action, reason = reason, state = meta.closing or meta.state, name = meta.name,
    per_buyer_limit = tonumber(meta.per_buyer_limit), rate_per_s = tonumber(meta.rate), capacity = tonumber(meta.capacity),
    opens_at_ms = tonumber(meta.opens_at_ms), ends_at_ms = tonumber(meta.ends_at_ms), message = meta.message,
    when_sold_out = meta.when_sold_out, validator = meta.validator, items = rows, created_at_ms = tonumber(meta.created_ms), at_ms = now,
  })
  redis.call('HSET', keys.meta, 'posted_ms', now)
end

local function slice(from, count)
  local part = {}
  for at = 1, count do part[at] = KEYS[from + at] end
  return part
end

-- A change of the sale: one version more, and the fact of it.
local function change_sale(keys, skus, withdrawn, action, reason, now)
  local version = redis.call('HINCRBY', keys.meta, 'version', 1)
  post_sale(keys, skus, withdrawn, action, reason, now, version)
  return version
end
