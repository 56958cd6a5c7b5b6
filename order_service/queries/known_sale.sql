-- What Postgres knows a sale up to, and when that sale was created, if it knows.
-- Repeatable: it writes nothing.
SELECT version, epoch, (definition ->> 'created_at_ms')::bigint AS created_at_ms FROM sales WHERE sale_id = $1::text
