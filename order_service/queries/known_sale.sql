-- What Postgres knows a sale up to.
-- Repeatable: it writes nothing.
SELECT version, epoch FROM sales WHERE sale_id = $1::text
