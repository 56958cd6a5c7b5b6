-- A page of dead letters in the order in which they became known, of one sale or all, in one state or all.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT
    d.number, d.id, d.kind, d.state, d.sale_id, d.ticket_id, d.reason, d.attempts, d.given_up_at, d.readmitted_as,
    d.handled_at, o.verdict
FROM dead_letters AS d
LEFT JOIN orders AS o ON d.kind = 'order' AND o.ticket_id = d.ticket_id
WHERE
    d.number > $1::bigint
    AND ($2::text IS NULL OR d.sale_id = $2::text)
    AND ($3::text IS NULL OR d.state = $3::text)
ORDER BY d.number
LIMIT $4::integer
