-- Whether one of these serials is sold or off sale.
-- Repeatable: it writes nothing.
SELECT EXISTS (
    SELECT FROM order_units WHERE sale_id = $1::text AND sku = $2::text AND unit = ANY ($3::text::integer[])
)
