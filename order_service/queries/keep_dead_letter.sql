-- Keeps a dead letter, and where it is on its topic.
-- Repeatable: one that is known stays as it is, but for its place: the latest one read is where the next look begins.
INSERT INTO dead_letters AS d (
    id, kind, letter_topic, letter_partition, letter_offset, key, value, headers, reason, attempts, given_up_at,
    sale_id, ticket_id
)
VALUES (
    $1::text, $2::text, $3::text, $4::integer, $5::bigint, $6::bytea, $7::bytea, $8::text::jsonb, $9::text,
    $10::integer, $11::timestamptz, $12::text, $13::uuid
)
ON CONFLICT (id) DO UPDATE
SET
    letter_topic = excluded.letter_topic, letter_partition = excluded.letter_partition,
    letter_offset = excluded.letter_offset
