-- Writes that an order failed, and why, and its ticket's history.
-- Repeatable: the first verdict of a ticket stays, and where there is one this writes and answers nothing.
WITH written AS (
    INSERT INTO orders (
        ticket_id, sale_id, sku, buyer_id, verdict, reason, units, slots, epoch, arrival, number, reserved_at, decided_at
    )
    VALUES (
        $1::uuid, $2::text, $3::text, $4::text, 'failed', $5::text, $6::text::integer[], $7::text::integer[],
        $8::bigint, $9::bigint, $10::bigint, to_timestamp($11::bigint / 1000.0), now()
    )
    ON CONFLICT (ticket_id) DO NOTHING
    RETURNING ticket_id, sale_id, sku, buyer_id, reason, units, arrival, decided_at
),
told AS (
    INSERT INTO ticket_history AS h (ticket_id, outcome, sale_id, sku, buyer_id, quantity, arrival, reason, at)
    SELECT ticket_id, 'RELEASED', sale_id, sku, buyer_id, cardinality(units), arrival, reason, decided_at
    FROM written
    ON CONFLICT (ticket_id) DO UPDATE
    SET outcome = excluded.outcome, quantity = excluded.quantity, reason = excluded.reason, at = excluded.at
    WHERE h.outcome IN ('DECLINED', 'LAPSED')
)
SELECT ticket_id, decided_at FROM written
