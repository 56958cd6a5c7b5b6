-- One dead letter with the verdict of its order, if it has one; locked, so that one at a time handles it.
-- Repeatable: it writes nothing.
SELECT d.*, o.verdict
FROM dead_letters AS d
LEFT JOIN orders AS o ON d.kind = 'order' AND o.ticket_id = d.ticket_id
WHERE d.id = $1::text
FOR UPDATE OF d
