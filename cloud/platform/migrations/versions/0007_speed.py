"""Reads that carry load, as functions: each sets the tenant that row-level security asks for and reads, in one statement.

A function runs with the rights of its caller, so the fence stands; the setting ends with the statement's transaction. Each takes
several questions at once: whatever waits at the same moment is asked in one round trip.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The settings: until a table that has just grown is analysed, PostgreSQL believes it small, sorts it whole for each page, and keeps
# that plan. There is one right way to read these, the primary key.
# A row is known by its version and by the transaction that wrote it (xmin): together they name what is stored exactly.
STATES = """
CREATE FUNCTION product_states(tenants text[], ids text[])
RETURNS TABLE (tenant_id text, id text, version bigint, written xid)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    tenant text;
BEGIN
    FOR tenant IN SELECT DISTINCT t FROM unnest(tenants) AS t LOOP
        PERFORM set_config('gipos.tenant_id', tenant, true);
        RETURN QUERY
            SELECT p.tenant_id, p.id, p.version, p.xmin FROM products p
            WHERE p.tenant_id = tenant
              AND p.id = ANY (ARRAY(SELECT q.id FROM unnest(tenants, ids) AS q (tenant_id, id) WHERE q.tenant_id = tenant));
    END LOOP;
END $$
"""
# A page answers one text, the states of its rows: a thousand small values would cost the driver more than all the rest.
PAGES = """
CREATE FUNCTION product_pages(tenants text[], befores text[], sizes integer[])
RETURNS TABLE (place integer, states text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    number integer;
BEGIN
    FOR number IN 1 .. cardinality(tenants) LOOP
        PERFORM set_config('gipos.tenant_id', tenants[number], true);
        IF befores[number] = '' THEN
            RETURN QUERY
                SELECT number, string_agg(concat_ws(' ', s.id, s.version, s.written), ',' ORDER BY s.id DESC) FROM (
                    SELECT p.id, p.version, p.xmin AS written FROM products p
                    WHERE p.tenant_id = tenants[number] AND p.deleted_at IS NULL
                    ORDER BY p.id DESC LIMIT sizes[number]
                ) AS s;
        ELSE
            RETURN QUERY
                SELECT number, string_agg(concat_ws(' ', s.id, s.version, s.written), ',' ORDER BY s.id DESC) FROM (
                    SELECT p.id, p.version, p.xmin AS written FROM products p
                    WHERE p.tenant_id = tenants[number] AND p.deleted_at IS NULL AND p.id < befores[number]
                    ORDER BY p.id DESC LIMIT sizes[number]
                ) AS s;
        END IF;
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Makes the functions."""
    for statement in (STATES, PAGES):
        op.execute(statement)
