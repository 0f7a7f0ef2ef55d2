"""Reading a range of the log for a till as one statement, and room for the log to lose its oldest events.

The function sets the tenant that row-level security asks for and reads, with the rights of its caller. Range, head, floor and the
till's watermark come from one statement and so from one moment: a range whose first events retention has taken away cannot come
without the floor that says so.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# A range ends after `span` positions, but not before `at_least` and not before the log position of the till's last upload. Its events come
# as arrays: thousands of small values cost the driver more than all the rest. The settings: the primary key, whatever the statistics say.
RANGE = """
CREATE FUNCTION log_range(
    tenant text, of_lane text, after bigint, span bigint, at_least bigint, wanted text[], till text, life bigint
)
RETURNS TABLE (
    epoch bigint, last_seq bigint, floor_seq bigint, op_watermark bigint, log_seq bigint, upto bigint,
    seqs bigint[], subjects text[], bodies bytea[]
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
BEGIN
    PERFORM set_config('gipos.tenant_id', tenant, true);
    RETURN QUERY
    WITH head AS MATERIALIZED (
        SELECT h.epoch, h.last_seq, h.floor_seq, COALESCE(s.op_watermark, 0) AS op_watermark, COALESCE(s.log_seq, 0) AS log_seq
        FROM log_heads h
        LEFT JOIN till_stores s ON s.tenant_id = tenant AND s.till_id = till AND s.store_epoch = life
        WHERE h.tenant_id = tenant AND h.lane = of_lane
    ), bounds AS MATERIALIZED (
        SELECT GREATEST(after, LEAST(head.last_seq, GREATEST(after + span, at_least, head.log_seq))) AS upto FROM head
    )
    SELECT head.epoch, head.last_seq, head.floor_seq, head.op_watermark, head.log_seq, bounds.upto,
           found.seqs, found.subjects, found.bodies
    FROM head, bounds, (
        SELECT array_agg(t.seq) AS seqs, array_agg(t.subject_id) AS subjects, array_agg(t.body) AS bodies FROM (
            SELECT e.seq, e.subject_id, e.body FROM events e
            WHERE e.tenant_id = tenant AND e.lane = of_lane AND e.seq > after AND e.seq <= (SELECT b.upto FROM bounds b)
              AND e.type = ANY (wanted)
            ORDER BY e.seq
        ) AS t
    ) AS found;
END $$
"""


def upgrade() -> None:
    """Makes the function. Vacuum keeps up with what retention deletes: the log's rows are many, and gone in the order they came."""
    op.execute(RANGE)
    op.execute("ALTER TABLE events SET (autovacuum_vacuum_scale_factor = 0.02)")
