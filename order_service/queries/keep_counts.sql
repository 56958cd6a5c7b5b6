-- Keeps the newest counts of sales.
-- Repeatable: older ones never replace newer ones, nor those of an earlier epoch a later one's.
INSERT INTO sale_counts AS c (sale_id, epoch, at, counts)
VALUES ($1::text, $2::bigint, to_timestamp($3::bigint / 1000.0), $4::text::jsonb)
ON CONFLICT (sale_id) DO UPDATE
SET epoch = excluded.epoch, at = excluded.at, counts = excluded.counts
WHERE (c.epoch, c.at) < (excluded.epoch, excluded.at)
