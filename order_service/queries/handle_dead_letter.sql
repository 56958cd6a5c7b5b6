-- Says what was done with a dead letter.
-- Repeatable: only one that is open changes, and only once.
UPDATE dead_letters
SET state = $2::text, readmitted_as = $3::uuid, handled_at = now()
WHERE id = $1::text AND state = 'open'
