-- A sale as it is known: the whole of it after its last change.
-- Repeatable: it writes nothing.
SELECT epoch, version, definition FROM sales WHERE sale_id = $1::text
