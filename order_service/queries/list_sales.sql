-- A page of the sales: all that are not closed, and those that were closed after an instant.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT sale_id, epoch, version, state, changed_at
FROM sales
WHERE sale_id > $1::text AND (state <> 'closed' OR changed_at > $2::timestamptz)
ORDER BY sale_id
LIMIT $3::integer
