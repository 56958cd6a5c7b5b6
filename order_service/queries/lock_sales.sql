-- The sales of a batch and their items, the sales locked so that neither epoch nor stock changes before the commit.
-- Repeatable: it writes nothing; shared locks, always taken in the same order, let other writers pass.
SELECT s.sale_id, s.epoch, i.sku, i.high
FROM (SELECT sale_id, epoch FROM sales WHERE sale_id = ANY ($1::text[]) ORDER BY sale_id FOR SHARE) AS s
LEFT JOIN items AS i USING (sale_id)
