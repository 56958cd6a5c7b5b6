-- Keeps what was done to a sale, with the whole sale after it; nothing of another sale of the same id, made anew.
-- Repeatable: a version has one row, the first one.
INSERT INTO sale_history (sale_id, version, action, reason, state, snapshot, at)
SELECT $1::text, $2::bigint, $3::text, $4::text, $5::text, $6::text::jsonb, to_timestamp($7::bigint / 1000.0)
FROM sales
WHERE sale_id = $1::text AND coalesce(definition ->> 'created_at_ms' = $6::text::jsonb ->> 'created_at_ms', TRUE)
ON CONFLICT (sale_id, version) DO NOTHING
