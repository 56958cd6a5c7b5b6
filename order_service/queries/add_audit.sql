-- Keeps who does what, and why.
-- Repeatable: a repeat is one more row, for it was asked once more.
INSERT INTO audit (operator, role, action, subject, sale_id, reason, request_id)
VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text)
