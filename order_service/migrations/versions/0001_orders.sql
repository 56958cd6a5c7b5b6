-- One row a sale: what Postgres knows of it. Neither its epoch nor its version ever goes back.
CREATE TABLE sales (
    sale_id text PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch >= 0),
    version bigint NOT NULL CHECK (version >= 0),
    state text NOT NULL,
    name text NOT NULL,
    per_buyer_limit integer NOT NULL CHECK (per_buyer_limit >= 1),
    definition jsonb NOT NULL,
    changed_at timestamptz NOT NULL
)
-- ----
-- One row an item. high is the highest serial that may be sold; stock is high less the serials taken off sale.
CREATE TABLE items (
    sale_id text NOT NULL REFERENCES sales,
    sku text NOT NULL,
    name text NOT NULL,
    stock integer NOT NULL CHECK (stock >= 0),
    high integer NOT NULL CHECK (high >= 0),
    version bigint NOT NULL,
    PRIMARY KEY (sale_id, sku)
)
-- ----
CREATE FUNCTION all_different(numbers integer[]) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT cardinality(numbers) < 2 OR count(*) = count(DISTINCT n) FROM unnest(numbers) AS n $$
-- ----
-- V1: one row an order, the verdict; the order's id is the ticket's. Rows are only ever added.
-- A failed order may be about anything (that may be why it failed); a confirmed one is whole.
CREATE TABLE orders (
    ticket_id uuid PRIMARY KEY,
    sale_id text NOT NULL REFERENCES sales,
    sku text NOT NULL,
    buyer_id text NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('confirmed', 'failed')),
    reason text CHECK (reason IN ('unit_taken', 'already_bought', 'not_writable', 'cancelled')),
    units integer[] NOT NULL,
    slots integer[] NOT NULL,
    epoch bigint,
    arrival bigint,
    number bigint,
    reserved_at timestamptz,
    decided_at timestamptz NOT NULL,
    CONSTRAINT orders_failed_for_a_reason CHECK ((verdict = 'failed') = (reason IS NOT NULL)),
    CONSTRAINT orders_confirmed_are_whole CHECK (
        verdict = 'failed' OR (
            cardinality(units) >= 1 AND cardinality(units) = cardinality(slots)
            -- One unit, the usual case, differs from no other: no need to call a function for each order.
            AND (cardinality(units) = 1 OR (all_different(units) AND all_different(slots)))
            AND epoch IS NOT NULL AND arrival IS NOT NULL AND number IS NOT NULL AND reserved_at IS NOT NULL
        )
    )
)
-- ----
CREATE INDEX orders_by_sale ON orders (sale_id, sku)
-- ----
-- V2: one row a unit that nobody else can buy: sold (with its order, buyer and slot) or off sale (with none of them).
-- A serial is sold once; a buyer has each slot once. A failed order has no row here.
CREATE TABLE order_units (
    sale_id text NOT NULL,
    sku text NOT NULL,
    unit integer NOT NULL CHECK (unit >= 1),
    ticket_id uuid REFERENCES orders,
    buyer_id text,
    slot integer CHECK (slot >= 1),
    PRIMARY KEY (sale_id, sku, unit),
    UNIQUE (sale_id, sku, buyer_id, slot),
    FOREIGN KEY (sale_id, sku) REFERENCES items,
    CONSTRAINT order_units_sold_or_off_sale CHECK (num_nulls(ticket_id, buyer_id, slot) IN (0, 3))
)
-- ----
-- Invariants 1 and 7, which no declared constraint can say: no serial above what is on sale, no slot above the limit,
-- and nothing sold but by a confirmed order for just that.
CREATE FUNCTION order_units_stay_within_bounds() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    wrong record;
BEGIN
    -- A change of stock that is under way is waited for and then seen; one that comes later waits for this.
    PERFORM FROM items WHERE (sale_id, sku) IN (SELECT DISTINCT sale_id, sku FROM added)
    ORDER BY sale_id, sku FOR SHARE;
    SELECT a.*, i.high, s.per_buyer_limit INTO wrong
    FROM added AS a
    JOIN items AS i ON i.sale_id = a.sale_id AND i.sku = a.sku
    JOIN sales AS s ON s.sale_id = a.sale_id
    LEFT JOIN orders AS o ON o.ticket_id = a.ticket_id
    WHERE
        a.unit > i.high
        OR a.slot > s.per_buyer_limit
        OR (
            a.ticket_id IS NOT NULL AND (
                o.verdict IS DISTINCT FROM 'confirmed' OR o.sale_id <> a.sale_id OR o.sku <> a.sku
                OR o.buyer_id <> a.buyer_id OR NOT a.unit = ANY (o.units) OR NOT a.slot = ANY (o.slots)
            )
        )
    LIMIT 1;
    IF FOUND THEN
        RAISE check_violation USING
            MESSAGE = format(
                'unit %s, slot %s of %s in %s: on sale are 1 to %s, a buyer may have %s, and a confirmed order must say so',
                wrong.unit, wrong.slot, wrong.sku, wrong.sale_id, wrong.high, wrong.per_buyer_limit
            ),
            TABLE = 'order_units', CONSTRAINT = 'order_units_stay_within_bounds';
    END IF;
    RETURN NULL;
END
$$
-- ----
CREATE TRIGGER order_units_stay_within_bounds
AFTER INSERT ON order_units REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION order_units_stay_within_bounds()
-- ----
-- The other side of the same: bounds do not shrink below what is sold, and nothing known goes back.
CREATE FUNCTION items_keep_what_is_sold() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF NEW.sale_id <> OLD.sale_id OR NEW.sku <> OLD.sku THEN
        RAISE check_violation USING
            MESSAGE = format('%s of %s is what it is', OLD.sku, OLD.sale_id),
            TABLE = 'items', CONSTRAINT = 'items_keep_what_is_sold';
    END IF;
    IF NEW.high < OLD.high AND EXISTS (
        SELECT FROM order_units WHERE sale_id = NEW.sale_id AND sku = NEW.sku AND unit > NEW.high
    ) THEN
        RAISE check_violation USING
            MESSAGE = format('a unit of %s in %s above %s is sold or off sale', NEW.sku, NEW.sale_id, NEW.high),
            TABLE = 'items', CONSTRAINT = 'items_keep_what_is_sold';
    END IF;
    RETURN NEW;
END
$$
-- ----
CREATE TRIGGER items_keep_what_is_sold
BEFORE UPDATE ON items
FOR EACH ROW EXECUTE FUNCTION items_keep_what_is_sold()
-- ----
-- At the end of the transaction, because serials are taken off sale after the new stock is set.
CREATE FUNCTION items_add_up() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    item record;
    off_sale bigint;
BEGIN
    SELECT stock, high INTO item FROM items WHERE sale_id = NEW.sale_id AND sku = NEW.sku;
    SELECT count(*) INTO off_sale FROM order_units
    WHERE sale_id = NEW.sale_id AND sku = NEW.sku AND ticket_id IS NULL;
    IF item.stock <> item.high - off_sale THEN
        RAISE check_violation USING
            MESSAGE = format(
                '%s of %s: a stock of %s is not the serials up to %s without the %s off sale',
                NEW.sku, NEW.sale_id, item.stock, item.high, off_sale
            ),
            TABLE = 'items', CONSTRAINT = 'items_add_up';
    END IF;
    RETURN NULL;
END
$$
-- ----
CREATE CONSTRAINT TRIGGER items_add_up
AFTER INSERT OR UPDATE ON items DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION items_add_up()
-- ----
CREATE FUNCTION sales_never_go_back() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF
        NEW.sale_id <> OLD.sale_id OR NEW.epoch < OLD.epoch OR NEW.version < OLD.version
        OR NEW.per_buyer_limit < OLD.per_buyer_limit
    THEN
        RAISE check_violation USING
            MESSAGE = format('%s: epoch, version and limit of a sale never go back', OLD.sale_id),
            TABLE = 'sales', CONSTRAINT = 'sales_never_go_back';
    END IF;
    RETURN NEW;
END
$$
-- ----
CREATE TRIGGER sales_never_go_back
BEFORE UPDATE ON sales
FOR EACH ROW EXECUTE FUNCTION sales_never_go_back()
-- ----
CREATE FUNCTION is_only_added_to() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE restrict_violation USING
        MESSAGE = format('%s on %s: its rows are final', TG_OP, TG_TABLE_NAME),
        TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
END
$$
-- ----
CREATE TRIGGER orders_are_only_added_to
BEFORE UPDATE OR DELETE OR TRUNCATE ON orders
FOR EACH STATEMENT EXECUTE FUNCTION is_only_added_to()
-- ----
CREATE TRIGGER order_units_are_not_changed
BEFORE UPDATE OR TRUNCATE ON order_units
FOR EACH STATEMENT EXECUTE FUNCTION is_only_added_to()
-- ----
-- Serials off sale may come back on sale; sold ones may not.
CREATE TRIGGER order_units_stay_sold
BEFORE DELETE ON order_units
FOR EACH ROW WHEN (OLD.ticket_id IS NOT NULL) EXECUTE FUNCTION is_only_added_to()
-- ----
-- For a shop's own reports: one row a unit sold. Its columns are a contract.
CREATE VIEW sold AS
SELECT u.sale_id, u.sku, u.unit, u.buyer_id, u.ticket_id, o.decided_at AS confirmed_at
FROM order_units AS u
JOIN orders AS o USING (ticket_id)
-- ----
-- How each ticket ended that was admitted: CONFIRMED and RELEASED are written together with the verdict.
-- SOLD_OUT and LEFT are only counted, in Redis.
CREATE TABLE ticket_history (
    ticket_id uuid PRIMARY KEY,
    outcome text NOT NULL CHECK (outcome IN ('CONFIRMED', 'RELEASED', 'DECLINED', 'LAPSED')),
    sale_id text NOT NULL,
    sku text NOT NULL,
    buyer_id text NOT NULL,
    quantity integer NOT NULL,
    arrival bigint,
    reason text NOT NULL,
    at timestamptz NOT NULL
)
-- ----
CREATE INDEX ticket_history_by_sale ON ticket_history (sale_id, sku, outcome, reason) INCLUDE (quantity)
-- ----
-- What was done to a sale, one row a version.
CREATE TABLE sale_history (
    sale_id text NOT NULL REFERENCES sales,
    version bigint NOT NULL,
    action text NOT NULL,
    reason text NOT NULL,
    state text NOT NULL,
    snapshot jsonb NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (sale_id, version)
)
-- ----
-- V6: failed attempts to handle a record, kept where a crash keeps them until its offset is committed.
CREATE TABLE attempts (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    count integer NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
)
