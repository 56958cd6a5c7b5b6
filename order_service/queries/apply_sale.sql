-- Takes over a sale as it is after a change, unless known that new already, or another one; answers whether it did.
-- Repeatable: only a newer version of no older epoch is taken over, of the sale that was created then, where both tell.
INSERT INTO sales AS s (sale_id, epoch, version, state, name, per_buyer_limit, definition, changed_at)
VALUES (
    $1::text, $2::bigint, $3::bigint, $4::text, $5::text, $6::integer, $7::text::jsonb,
    to_timestamp($8::bigint / 1000.0)
)
ON CONFLICT (sale_id) DO UPDATE
SET
    epoch = excluded.epoch, version = excluded.version, state = excluded.state, name = excluded.name,
    per_buyer_limit = excluded.per_buyer_limit, definition = excluded.definition, changed_at = excluded.changed_at
WHERE
    s.version < excluded.version AND s.epoch <= excluded.epoch
    AND coalesce(s.definition ->> 'created_at_ms' = excluded.definition ->> 'created_at_ms', TRUE)
RETURNING sale_id
