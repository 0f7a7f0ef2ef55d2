"""A till's hello as one statement: what is known of it, its outlet and its lanes, and the session that fences the one before.

Only the usual hello is answered. Whatever needs a judgement (a second tablet, an older life, a restored cloud) leaves everything
as it was and answers with no row: the rules for that are in one place, and not here.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# Settings: the primary keys, whatever the statistics say. Each statement inside sees what was committed before it, so the watermark is
# read under the till's lock and the heads after it, as an upload commits them together.
HELLO = """
CREATE FUNCTION link_hello(
    tenant text, till text, outlet text, life bigint, acknowledged bigint, given bigint, is_old boolean, mark bytea, moment timestamptz
)
RETURNS TABLE (
    session bigint, op_watermark bigint, log_seq bigint, last_number text,
    name text, code text, address text, time_zone text, tax_number text, prices_include_tax boolean, receipt_footer text,
    created_at timestamptz, till_ids text[], till_names text[], till_numbers integer[],
    lanes text[], epochs bigint[], last_seqs bigint[], floor_seqs bigint[],
    version bigint, longest_hours integer, most_sales integer, most_amount bigint, tenders text[], override_minutes integer,
    supervisor_pins text[], updated_at timestamptz, has_commands boolean
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    before record;
    was_known boolean;
    stored bigint := 0;
    claimed bigint := 0;
    reached bigint := 0;
    number bigint;
BEGIN
    PERFORM set_config('gipos.tenant_id', tenant, true);
    SELECT l.store_epoch, l.forked_epoch INTO before FROM till_links l
        WHERE l.tenant_id = tenant AND l.till_id = till FOR UPDATE;
    was_known := FOUND;
    SELECT s.op_watermark, s.claimed_seq, s.log_seq INTO stored, claimed, reached FROM till_stores s
        WHERE s.tenant_id = tenant AND s.till_id = till AND s.store_epoch = life;
    stored := COALESCE(stored, 0);
    claimed := COALESCE(claimed, 0);
    reached := COALESCE(reached, 0);
    IF (was_known AND (life < before.store_epoch OR (before.forked_epoch = life AND acknowledged < stored)))
        OR (NOT is_old AND 0 < given AND given < stored)
        OR acknowledged > GREATEST(stored, claimed)
        OR NOT EXISTS (SELECT FROM outlets o WHERE o.tenant_id = tenant AND o.id = outlet)
        OR (0 < acknowledged AND acknowledged <= stored AND mark <> '' AND EXISTS (
            SELECT FROM till_batches b
            WHERE b.tenant_id = tenant AND b.till_id = till AND b.store_epoch = life
              AND b.last_op_seq >= acknowledged AND b.first_op_seq <= acknowledged
              AND substring(b.marks FROM CAST((acknowledged - b.first_op_seq) * 8 + 1 AS integer) FOR 8) NOT IN (mark, '')
        ))
    THEN
        RETURN;
    END IF;
    INSERT INTO till_links AS l (tenant_id, till_id, store_epoch, session, connected_at) VALUES (tenant, till, life, 1, moment)
        ON CONFLICT (tenant_id, till_id) DO UPDATE
            SET session = l.session + 1, connected_at = excluded.connected_at,
                store_epoch = greatest(l.store_epoch, excluded.store_epoch)
        RETURNING l.session INTO number;
    IF number > 1 AND NOT was_known THEN
        RAISE EXCEPTION 'two first hellos of one till at once' USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO till_stores (tenant_id, till_id, store_epoch) VALUES (tenant, till, life) ON CONFLICT DO NOTHING;
    RETURN QUERY
    SELECT number, stored, reached,
        COALESCE((SELECT s.number FROM sales s WHERE s.tenant_id = tenant AND s.till_id = till AND s.number <> ''
                  ORDER BY length(s.number) DESC, s.number DESC LIMIT 1), ''),
        o.name, o.code, o.address, o.time_zone, o.tax_number, o.prices_include_tax, o.receipt_footer, o.created_at,
        t.ids, t.names, t.numbers, h.lanes, h.epochs, h.last_seqs, h.floor_seqs,
        p.version, p.longest_hours, p.most_sales, p.most_amount, p.tenders, p.override_minutes, p.supervisor_pins, p.updated_at,
        EXISTS (SELECT FROM till_commands c WHERE c.tenant_id = tenant AND c.till_id = till AND c.status IN ('waiting', 'sent'))
    FROM outlets o
    CROSS JOIN LATERAL (
        SELECT array_agg(m.id ORDER BY m.number) AS ids, array_agg(m.name ORDER BY m.number) AS names,
               array_agg(m.number ORDER BY m.number) AS numbers
        FROM tills m WHERE m.tenant_id = tenant AND m.outlet_id = outlet
    ) t
    CROSS JOIN LATERAL (
        SELECT array_agg(l.lane) AS lanes, array_agg(l.epoch) AS epochs, array_agg(l.last_seq) AS last_seqs,
               array_agg(l.floor_seq) AS floor_seqs
        FROM log_heads l WHERE l.tenant_id = tenant AND l.lane IN ('tenant', outlet)
    ) h
    LEFT JOIN offline_policies p ON p.tenant_id = tenant AND p.outlet_id = outlet
    WHERE o.tenant_id = tenant AND o.id = outlet;
END $$
"""

STATEMENTS = (
    "CREATE INDEX tills_of_outlet ON tills (tenant_id, outlet_id, number)",
    "CREATE INDEX offline_policies_updated ON offline_policies (updated_at)",
    HELLO,
)


def upgrade() -> None:
    """Makes the function, and what finds the tills of one outlet and the policies of the last seconds."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
