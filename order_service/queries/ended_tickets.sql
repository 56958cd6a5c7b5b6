-- A page of the tickets of a sale that ended, each with its order where there was one, and the ticket it was readmitted as.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT
    h.ticket_id, h.outcome, h.sku, h.buyer_id, h.quantity, h.arrival, h.reason, h.at,
    o.verdict, o.units, o.slots, o.epoch, o.number, d.readmitted_as
FROM ticket_history AS h
LEFT JOIN orders AS o USING (ticket_id)
LEFT JOIN (
    -- Two letters of one ticket, readmitted each, name the same one.
    SELECT DISTINCT ticket_id, readmitted_as FROM dead_letters WHERE sale_id = $1::text AND state = 'readmitted'
) AS d USING (ticket_id)
WHERE h.sale_id = $1::text AND h.ticket_id > $2::uuid
ORDER BY h.ticket_id
LIMIT $3::integer
