-- Puts serials back on sale that the sale does not name as withdrawn any more. None that is sold is touched.
-- Repeatable: it goes by the whole list.
DELETE FROM order_units AS u
WHERE
    u.sale_id = $1::text
    AND u.ticket_id IS NULL
    AND NOT EXISTS (
        SELECT FROM unnest($2::text[], $3::integer[]) AS w (sku, unit) WHERE w.sku = u.sku AND w.unit = u.unit
    )
