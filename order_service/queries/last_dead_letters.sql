-- The last dead letter that is known of each partition.
-- Repeatable: it writes nothing.
SELECT DISTINCT ON (letter_topic, letter_partition) letter_topic, letter_partition, letter_offset, id
FROM dead_letters
WHERE letter_topic = ANY ($1::text[])
ORDER BY letter_topic, letter_partition, letter_offset DESC
