-- A page of the audit log, the latest first, of one sale or all.
-- Repeatable: it writes nothing, and a page begins after the last one's end whatever has come since.
SELECT audit_id, at, operator, role, action, subject, sale_id, reason, request_id
FROM audit
WHERE audit_id < $1::bigint AND ($2::text IS NULL OR sale_id = $2::text)
ORDER BY audit_id DESC
LIMIT $3::integer
