-- Makes all orders of a sale that are not decided yet void, after those that are being written (V7, D2).
-- Repeatable: the epoch is named, so a second time finds another one and answers nothing.
UPDATE sales SET epoch = epoch + 1 WHERE sale_id = $1::text AND epoch = $2::bigint RETURNING epoch
