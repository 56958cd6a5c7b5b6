-- Takes serials off sale: each gets a row without an order, so that it can never be sold.
-- Repeatable: one that is off sale stays so. One that is sold stays sold; then the stock does not add up and is refused.
INSERT INTO order_units (sale_id, sku, unit)
SELECT $1::text, w.sku, w.unit
FROM unnest($2::text[], $3::integer[]) AS w (sku, unit)
ORDER BY w.sku, w.unit
ON CONFLICT DO NOTHING
