-- The fact that a ticket's life ended without an order: ticket.declined or ticket.lapsed.
local function post_ended(outbox, kind, sale_id, id, ticket, reason, now)
  post(outbox, {
    type = kind, sale_id = sale_id, ticket_id = id, sku = ticket[F.sku], buyer_id = ticket[F.buyer],
    quantity = ticket[F.quantity], arrival = ticket[F.arrival], reason = reason, at_ms = now,
  })
end
