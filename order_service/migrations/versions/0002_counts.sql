-- One row a sale: its last counts from Redis, fields as in fairline.counts. Without a reference to sales: counts are
-- worth keeping whatever else is known.
CREATE TABLE sale_counts (
    sale_id text PRIMARY KEY,
    epoch bigint NOT NULL,
    at timestamptz NOT NULL,
    counts jsonb NOT NULL
)
