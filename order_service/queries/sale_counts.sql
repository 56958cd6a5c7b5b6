-- The last counts of a sale that Redis told.
-- Repeatable: it writes nothing.
SELECT at, counts FROM sale_counts WHERE sale_id = $1::text
