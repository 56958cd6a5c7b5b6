-- Tickets of a sale that reached Postgres, counted by item, outcome and reason: so many reasons, the others as one.
-- Repeatable: it writes nothing.
SELECT sku, outcome, CASE WHEN place <= $2::integer THEN reason ELSE $3::text END AS reason, sum(tickets)::bigint AS tickets
FROM (
    SELECT
        sku, outcome, reason, count(*) AS tickets,
        row_number() OVER (PARTITION BY sku, outcome ORDER BY count(*) DESC, reason) AS place
    FROM ticket_history
    WHERE sale_id = $1::text
    GROUP BY sku, outcome, reason
) AS counted
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
