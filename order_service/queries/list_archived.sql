-- A page of the archived sales with what was left of them in Redis: the last counts, and how many units were sold.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT
    s.sale_id, s.epoch, s.version, s.definition, coalesce(c.counts, '{}') AS counts,
    (
        SELECT coalesce(jsonb_object_agg(u.sku, u.units), '{}')
        FROM (SELECT sku, count(ticket_id) AS units FROM order_units WHERE sale_id = s.sale_id GROUP BY sku) AS u
    ) AS sold
FROM sales AS s
LEFT JOIN sale_counts AS c USING (sale_id)
WHERE s.sale_id > $1::text AND s.state = 'archived'
ORDER BY s.sale_id
LIMIT $2::integer
