-- An admitted ticket goes back to its own place (L5). Its claim to a unit goes with it (U3).
local function requeue(keys, line, id, ticket, now)
  redis.call('ZREM', keys.leases, id)
  redis.call('ZADD', line, ticket[F.arrival], id)
  add(keys.items, ticket[F.sku] .. ':claims', -ticket[F.quantity])
  add(keys.items, ticket[F.sku] .. ':back', ticket[F.quantity])
  ticket[F.back] = 1
  move(keys, id, ticket, 'requeue', '', now)
end
