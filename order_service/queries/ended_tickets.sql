-- A page of the tickets of a sale that ended, each with its order where there was one.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT
    h.ticket_id, h.outcome, h.sku, h.buyer_id, h.quantity, h.arrival, h.reason, h.at,
    o.verdict, o.units, o.slots, o.epoch, o.number
FROM ticket_history AS h
LEFT JOIN orders AS o USING (ticket_id)
WHERE h.sale_id = $1::text AND h.ticket_id > $2::uuid
ORDER BY h.ticket_id
LIMIT $3::integer
