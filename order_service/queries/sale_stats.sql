-- Tickets of a sale that reached Postgres, counted by item, outcome and reason.
-- Repeatable: it writes nothing.
SELECT sku, outcome, reason, count(*) AS tickets, sum(quantity) AS units
FROM ticket_history
WHERE sale_id = $1::text
GROUP BY sku, outcome, reason
ORDER BY sku, outcome, reason
