-- For whoever reads all of them, a page at a time.
CREATE INDEX ticket_history_pages ON ticket_history (sale_id, ticket_id)
