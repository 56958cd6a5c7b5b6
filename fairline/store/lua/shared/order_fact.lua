-- The order of a RESERVED ticket, with today's epoch (O3). The record keeps all of it until it is settled (O2).
local function post_order(outbox, sale_id, epoch, id, ticket)
  post(outbox, {
    type = 'order.placed.v1', sale_id = sale_id, ticket_id = id, sku = ticket[F.sku], buyer_id = ticket[F.buyer],
    units = ticket[F.units], slots = ticket[F.slots], epoch = epoch, arrival = ticket[F.arrival],
    number = ticket[F.number], reserved_at_ms = ticket[F.changed_ms],
  })
end
