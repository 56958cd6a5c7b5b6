-- The failed attempts of these records.
-- Repeatable: it writes nothing.
SELECT a.topic, a.partition, a."offset", a.count, a.reason
FROM attempts AS a
JOIN unnest($1::text[], $2::integer[], $3::bigint[]) AS r (topic, partition, "offset")
    ON a.topic = r.topic AND a.partition = r.partition AND a."offset" = r."offset"
