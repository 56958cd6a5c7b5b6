-- Counts one more failed attempt to handle a record, up to a number, and answers the count.
-- Repeatable: a repeat is one more attempt, which is what it counts; a crash keeps it (V6).
INSERT INTO attempts AS a (topic, partition, "offset", count, reason, at)
VALUES ($1::text, $2::integer, $3::bigint, 1, $4::text, now())
ON CONFLICT (topic, partition, "offset") DO UPDATE
SET count = least(a.count + 1, $5::integer), reason = excluded.reason, at = excluded.at
RETURNING count
