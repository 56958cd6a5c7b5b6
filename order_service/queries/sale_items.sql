-- A sale and its items, with the units sold and those off sale. One row without an item for a sale that has none.
-- Repeatable: it writes nothing.
SELECT
    s.sale_id, s.epoch, s.version, s.state, s.name, i.sku, i.name AS item, i.stock, i.high,
    (SELECT count(ticket_id) FROM order_units AS u WHERE (u.sale_id, u.sku) = (i.sale_id, i.sku)) AS sold
FROM sales AS s
LEFT JOIN items AS i USING (sale_id)
WHERE s.sale_id = $1::text
ORDER BY i.sku
