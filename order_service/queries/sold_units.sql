-- A page of the units sold of a sale, by item and serial.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT sku, unit, buyer_id, ticket_id, confirmed_at
FROM sold
WHERE sale_id = $1::text AND (sku, unit) > ($2::text, $3::integer)
ORDER BY sku, unit
LIMIT $4::integer
