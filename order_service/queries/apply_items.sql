-- Takes over the stock of a sale's items.
-- Repeatable: it sets, it does not add; the sale's row, locked by apply_sale, keeps an older change out.
INSERT INTO items (sale_id, sku, name, stock, high, version)
SELECT $1::text, i.sku, i.name, i.stock, i.high, i.version
FROM unnest($2::text[], $3::text[], $4::integer[], $5::integer[], $6::bigint[]) AS i (sku, name, stock, high, version)
ORDER BY i.sku
ON CONFLICT (sale_id, sku) DO UPDATE
SET name = excluded.name, stock = excluded.stock, high = excluded.high, version = excluded.version
