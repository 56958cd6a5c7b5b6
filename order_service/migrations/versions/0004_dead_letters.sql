-- Dead letters, copied from their topics when somebody looks, so that what was done with each has a place. id is where
-- the record came from, so that one that was given up twice is one; letter_partition and letter_offset are where it is
-- on the dead-letter topic.
CREATE TABLE dead_letters (
    id text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    kind text NOT NULL CHECK (kind IN ('order', 'result', 'sale', 'ticket')),
    letter_topic text NOT NULL,
    letter_partition integer NOT NULL,
    letter_offset bigint NOT NULL,
    key bytea,
    value bytea NOT NULL,
    headers jsonb NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    given_up_at timestamptz,
    sale_id text,
    ticket_id uuid,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'readmitted', 'discarded')),
    readmitted_as uuid,
    handled_at timestamptz,
    CONSTRAINT dead_letters_handled_at_a_time CHECK ((state = 'open') = (handled_at IS NULL)),
    CONSTRAINT dead_letters_readmitted_as_a_ticket CHECK ((state = 'readmitted') = (readmitted_as IS NOT NULL))
)
-- ----
CREATE INDEX dead_letters_by_sale ON dead_letters (sale_id, number)
-- ----
CREATE INDEX dead_letters_by_place ON dead_letters (letter_topic, letter_partition, letter_offset)
-- ----
-- Who did what, written before it is done. subject is what it was done to; request_id finds it in the gateway's log.
CREATE TABLE audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    operator text NOT NULL,
    role text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    sale_id text,
    reason text NOT NULL,
    request_id text NOT NULL
)
-- ----
CREATE INDEX audit_by_sale ON audit (sale_id, audit_id)
-- ----
CREATE TRIGGER audit_is_only_added_to
BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION is_only_added_to()
