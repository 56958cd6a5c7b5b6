-- The verdicts that these tickets have.
-- Repeatable: it writes nothing, and a verdict never changes.
SELECT ticket_id, sale_id, sku, buyer_id, verdict, reason, units, slots, decided_at
FROM orders
WHERE ticket_id = ANY ($1::uuid[])
