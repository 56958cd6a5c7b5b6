-- Writes orders, their units and their tickets' history; answers those written, and whether all their units were free.
-- Repeatable: an order that has a row already is neither written nor answered. One not `whole` must be rolled back.
WITH placed AS (
    SELECT *
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[]
    ) AS p (ticket_id, sale_id, sku, buyer_id, units, slots, epoch, arrival, number, reserved_at_ms)
),
written AS (
    INSERT INTO orders (
        ticket_id, sale_id, sku, buyer_id, verdict, units, slots, epoch, arrival, number, reserved_at, decided_at
    )
    SELECT
        ticket_id, sale_id, sku, buyer_id, 'confirmed', units::integer[], slots::integer[], epoch, arrival, number,
        to_timestamp(reserved_at_ms / 1000.0), now()
    FROM placed
    ORDER BY ticket_id
    ON CONFLICT (ticket_id) DO NOTHING
    RETURNING ticket_id, sale_id, sku, buyer_id, units, slots, arrival, decided_at
),
sold AS (
    INSERT INTO order_units (sale_id, sku, unit, ticket_id, buyer_id, slot)
    SELECT w.sale_id, w.sku, u.unit, w.ticket_id, w.buyer_id, u.slot
    FROM written AS w, unnest(w.units, w.slots) AS u (unit, slot)
    ORDER BY w.sale_id, w.sku, u.unit, w.arrival, w.ticket_id
    ON CONFLICT DO NOTHING
    RETURNING ticket_id
),
told AS (
    INSERT INTO ticket_history AS h (ticket_id, outcome, sale_id, sku, buyer_id, quantity, arrival, reason, at)
    SELECT ticket_id, 'CONFIRMED', sale_id, sku, buyer_id, cardinality(units), arrival, '', decided_at
    FROM written
    ORDER BY ticket_id
    ON CONFLICT (ticket_id) DO UPDATE
    SET outcome = excluded.outcome, quantity = excluded.quantity, reason = excluded.reason, at = excluded.at
    WHERE h.outcome IN ('DECLINED', 'LAPSED')
),
counted AS (
    SELECT ticket_id, count(*) AS units FROM sold GROUP BY ticket_id
)
SELECT w.ticket_id, w.decided_at, cardinality(w.units) = coalesce(c.units, 0) AS whole
FROM written AS w
LEFT JOIN counted AS c USING (ticket_id)
