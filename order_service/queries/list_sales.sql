-- A page of the sales that have tickets in Redis: all that are not archived.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT sale_id, epoch, version, state, changed_at
FROM sales
WHERE sale_id > $1::text AND state <> 'archived'
ORDER BY sale_id
LIMIT $2::integer
