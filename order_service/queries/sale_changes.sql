-- A page of what was done to a sale, the latest first.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT version, action, reason, state, snapshot, at
FROM sale_history
WHERE sale_id = $1::text AND version < $2::bigint
ORDER BY version DESC
LIMIT $3::integer
