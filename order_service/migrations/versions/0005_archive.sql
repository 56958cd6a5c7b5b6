-- Of an archived sale every ticket has its row, also those who left the line or found all sold.
ALTER TABLE ticket_history
DROP CONSTRAINT ticket_history_outcome_check,
ADD CONSTRAINT ticket_history_outcome_check CHECK (
    outcome IN ('CONFIRMED', 'RELEASED', 'DECLINED', 'LAPSED', 'LEFT', 'SOLD_OUT')
)
