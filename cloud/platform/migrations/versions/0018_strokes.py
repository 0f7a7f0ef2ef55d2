"""A batch of a till's sales as one statement: the till's lock and the look at where it stands, the sales, the levels, the ledger.

Only the usual batch is stored: one that follows on what is there, of sales that are new, of products that exist. Whatever else it is,
nothing is changed and no row comes back: the rules for that are in one place, and not here.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# Texts and numbers come packed (cloud/platform/statements.py). Settings: one plan for batches of any size, and that by hashes: of
# sizes the planner knows nothing, and would go through hundreds of rows for each of hundreds. Single rows are looked up by scalar
# subqueries, which are index lookups whatever it thinks.
SELL = """
CREATE FUNCTION link_sell(
    tenant text, lives text[], epochs bigint[], sessions bigint[], firsts bigint[], wanted text,
    ids text, numbers text, outlet_ids text, till_ids text, channels text, customer_ids text, business_dates text,
    external_ids text, cashiers text, payment_methods text, totals text, bodies bytea[], moments timestamptz[],
    store_epochs text, op_seqs text, device_clocks timestamptz[], offsets bigint[], uncertainties bigint[], clock_states text,
    state smallint, moment timestamptz,
    level_outlets text, level_products text, level_quantities text,
    movement_ids text, movement_levels text, movement_quantities text, movement_sums text, movement_sales text
)
RETURNS TABLE (outlet_id text, product_id text, on_hand bigint, reserved bigint, version bigint, listens boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET enable_nestloop = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    many bigint;
    is_heard boolean;
BEGIN
    -- The links are locked in the order of their tills, the first lock of every upload. Below, each statement sees what was committed
    -- before it, so the watermarks are read under that lock.
    PERFORM FROM till_links l WHERE l.tenant_id = tenant AND l.till_id = ANY(lives) ORDER BY l.till_id FOR UPDATE;
    SELECT count(*) INTO many FROM unnest(lives, epochs, sessions, firsts) AS g (till_id, epoch, session, first)
        WHERE (SELECT l.session FROM till_links l WHERE l.tenant_id = tenant AND l.till_id = g.till_id) = g.session
          AND (SELECT t.state FROM tills t WHERE t.tenant_id = tenant AND t.id = g.till_id) NOT IN ('revoked', 'suspended')
          AND (SELECT s.op_watermark FROM till_stores s
               WHERE s.tenant_id = tenant AND s.till_id = g.till_id AND s.store_epoch = g.epoch) = g.first - 1;
    IF many <> cardinality(lives) THEN
        RETURN;
    END IF;
    PERFORM FROM unnest(string_to_array(wanted, chr(31))) AS w (id)
        WHERE (SELECT 1 FROM products p WHERE p.tenant_id = tenant AND p.id = substr(w.id, 2)) IS NULL LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;
    BEGIN
        INSERT INTO sales (tenant_id, id, number, outlet_id, till_id, channel, customer_id, status, business_date, total, external_id,
                           version, body, sold_at, created_at, updated_at, cashier, payment_methods,
                           store_epoch, op_seq, device_clock, clock_offset_ms, clock_uncertainty_ms, clock_state)
        SELECT tenant, substr(s.id, 2), substr(s.number, 2), substr(s.outlet_id, 2), substr(s.till_id, 2), substr(s.channel, 2),
               substr(s.customer_id, 2), state, CAST(substr(s.business_date, 2) AS date), CAST(s.total AS bigint),
               substr(s.external_id, 2), 1, s.body, s.sold_at, moment, moment, substr(s.cashier, 2),
               string_to_array(substr(s.methods, 2), chr(30)), CAST(s.epoch AS bigint), CAST(s.op_seq AS bigint), s.device_clock,
               s.clock_offset, s.uncertainty, CAST(s.clock_state AS smallint)
        FROM unnest(string_to_array(ids, chr(31)), string_to_array(numbers, chr(31)), string_to_array(outlet_ids, chr(31)),
                    string_to_array(till_ids, chr(31)), string_to_array(channels, chr(31)), string_to_array(customer_ids, chr(31)),
                    string_to_array(business_dates, chr(31)), string_to_array(external_ids, chr(31)),
                    string_to_array(cashiers, chr(31)), string_to_array(payment_methods, chr(31)), string_to_array(totals, ' '),
                    bodies, moments, string_to_array(store_epochs, ' '), string_to_array(op_seqs, ' '), device_clocks, offsets,
                    uncertainties, string_to_array(clock_states, ' '))
             AS s (id, number, outlet_id, till_id, channel, customer_id, business_date, external_id, cashier, methods, total, body,
                   sold_at, epoch, op_seq, device_clock, clock_offset, uncertainty, clock_state)
        ON CONFLICT (tenant_id, id) DO NOTHING;
        GET DIAGNOSTICS many = ROW_COUNT;
        IF many <> cardinality(bodies) THEN
            RAISE EXCEPTION 'some of these sales are there already' USING ERRCODE = 'GP001';
        END IF;
    EXCEPTION WHEN SQLSTATE 'GP001' THEN
        RETURN;
    END;
    is_heard := EXISTS (SELECT FROM webhooks w WHERE w.tenant_id = tenant AND w.status = 1);
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT substr(d.outlet_id, 2) AS outlet_id, substr(d.product_id, 2) AS product_id, CAST(d.quantity AS bigint) AS quantity, d.place
        FROM unnest(string_to_array(level_outlets, chr(31)), string_to_array(level_products, chr(31)),
                    string_to_array(level_quantities, ' ')) WITH ORDINALITY AS d (outlet_id, product_id, quantity, place)
    ), added AS (
        -- Levels are locked in the order of their keys, so that two uploads never wait for each other.
        INSERT INTO levels AS l (tenant_id, outlet_id, product_id, on_hand, updated_at)
        SELECT tenant, g.outlet_id, g.product_id, g.quantity, moment FROM given g ORDER BY g.outlet_id, g.product_id
        ON CONFLICT (tenant_id, outlet_id, product_id) DO UPDATE
            SET on_hand = l.on_hand + excluded.on_hand, version = l.version + 1, updated_at = excluded.updated_at
        RETURNING l.outlet_id, l.product_id, l.on_hand, l.reserved, l.version
    ), before AS (
        SELECT CAST(g.place AS integer) AS place, g.outlet_id, g.product_id, a.on_hand - g.quantity AS on_hand
        FROM given g JOIN added a ON a.product_id = g.product_id AND a.outlet_id = g.outlet_id
    ), written AS (
        INSERT INTO movements (tenant_id, id, outlet_id, product_id, quantity, on_hand_after, reason, sale_id, note, created_at)
        SELECT tenant, substr(m.id, 2), b.outlet_id, b.product_id, CAST(m.quantity AS bigint), b.on_hand + CAST(m.sum AS bigint), 'sale',
               substr(m.sale_id, 2), '', moment
        FROM unnest(string_to_array(movement_ids, chr(31)), CAST(string_to_array(movement_levels, ' ') AS integer[]),
                    string_to_array(movement_quantities, ' '), string_to_array(movement_sums, ' '),
                    string_to_array(movement_sales, chr(31))) AS m (id, level, quantity, sum, sale_id)
        JOIN before b ON b.place = m.level
    )
    SELECT a.outlet_id, a.product_id, a.on_hand, a.reserved, a.version, is_heard FROM added a;
END $$
"""


def upgrade() -> None:
    """Makes the function."""
    op.execute(SELL)


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
