-- Keeps how tickets ended; where a verdict wrote the row before, that one stays.
-- Repeatable: a ticket has one row, and the first outcome stays.
INSERT INTO ticket_history (ticket_id, outcome, sale_id, sku, buyer_id, quantity, arrival, reason, at)
SELECT t.ticket_id, t.outcome, t.sale_id, t.sku, t.buyer_id, t.quantity, t.arrival, t.reason,
    to_timestamp(t.at_ms / 1000.0)
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::bigint[], $8::text[], $9::bigint[]
) AS t (ticket_id, outcome, sale_id, sku, buyer_id, quantity, arrival, reason, at_ms)
ORDER BY t.ticket_id
ON CONFLICT (ticket_id) DO NOTHING
