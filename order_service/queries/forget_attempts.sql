-- Forgets the attempts of records whose offset is committed.
-- Repeatable: what is gone is gone.
DELETE FROM attempts AS a
USING unnest($1::text[], $2::integer[], $3::bigint[]) AS done (topic, partition, "offset")
WHERE a.topic = done.topic AND a.partition = done.partition AND a."offset" = done."offset"
