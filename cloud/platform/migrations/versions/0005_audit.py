"""The audit trail with its chain, the merchants' wrapped keys, and room for sealed personal data and secrets.

Only what needs no key happens here: events lose personal data, plain rows are sealed by cloud/protection.py afterwards.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gipos.v1.customers_pb2 import Customer
from kernel.masking import masked

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# seq, previous_hash and hash are the seal: empty when an entry is inserted, set once, never changed.
STATEMENTS = (
    """
    CREATE TABLE audit_entries (
        tenant_id text NOT NULL, id text NOT NULL, created_at timestamptz NOT NULL, actor_type text NOT NULL, actor_id text NOT NULL,
        action text NOT NULL, resource_type text NOT NULL, resource_ids text[] NOT NULL, outcome text NOT NULL, fields text[] NOT NULL,
        request_id text NOT NULL, address text NOT NULL, user_agent text NOT NULL, mode text NOT NULL, count integer NOT NULL,
        seq bigint, previous_hash bytea, hash bytea,
        CHECK (num_nulls(seq, previous_hash, hash) IN (0, 3)),
        PRIMARY KEY (tenant_id, created_at, id)
    )
    """,
    "CREATE UNIQUE INDEX audit_entries_chain ON audit_entries (tenant_id, seq) WHERE seq IS NOT NULL",
    "CREATE INDEX audit_entries_unsealed ON audit_entries (created_at, id) WHERE seq IS NULL",
    "CREATE INDEX audit_entries_request ON audit_entries (tenant_id, request_id)",
    # Two indexes instead of one on the array, whose own operators are of no use under row-level security.
    "CREATE INDEX audit_entries_resource ON audit_entries (tenant_id, (resource_ids[1]), created_at, id)",
    "CREATE INDEX audit_entries_several ON audit_entries (tenant_id, created_at, id) WHERE cardinality(resource_ids) > 1",
    """
    CREATE TABLE audit_heads (
        tenant_id text NOT NULL, last_seq bigint NOT NULL, hash bytea NOT NULL, PRIMARY KEY (tenant_id)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $body$
    DECLARE
        unsealed audit_entries;
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            unsealed := NEW;
            unsealed.seq := NULL;
            unsealed.previous_hash := NULL;
            unsealed.hash := NULL;
            IF unsealed IS NOT DISTINCT FROM OLD THEN
                RETURN NEW;
            END IF;
        END IF;
        RAISE EXCEPTION 'audit entries are never changed or removed' USING ERRCODE = 'insufficient_privilege';
    END $body$
    """,
    """
    CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE ON audit_entries
        FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()
    """,
    """
    CREATE TRIGGER audit_entries_stay_all BEFORE TRUNCATE ON audit_entries
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()
    """,
    # Without the seal's columns: nobody but the sealer says what is sealed.
    """
    GRANT SELECT, INSERT (tenant_id, id, created_at, actor_type, actor_id, action, resource_type, resource_ids, outcome, fields,
                          request_id, address, user_agent, mode, count) ON audit_entries TO gipos_app, gipos_system
    """,
    "GRANT UPDATE (seq, previous_hash, hash) ON audit_entries TO gipos_system",
    "GRANT SELECT ON audit_heads TO gipos_app",
    "GRANT SELECT, INSERT, UPDATE ON audit_heads TO gipos_system",
    """
    CREATE TABLE tenant_keys (
        tenant_id text NOT NULL, purpose text NOT NULL, number integer NOT NULL, wrapped bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, purpose, number)
    )
    """,
    "CREATE TABLE key_checks (key_id bytea PRIMARY KEY, value bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now())",
    # Nothing for gipos_app: what serves callers has no business with wrapped keys.
    "GRANT SELECT, INSERT, UPDATE ON tenant_keys TO gipos_system",
    "GRANT SELECT, INSERT ON key_checks TO gipos_system",
    """
    ALTER TABLE customers
        ADD COLUMN personal bytea, ADD COLUMN phone_index bytea, ADD COLUMN email_index bytea,
        ADD COLUMN name_index bytea[] NOT NULL DEFAULT '{}', ADD COLUMN sound_index bytea[] NOT NULL DEFAULT '{}',
        ADD COLUMN deleted_at timestamptz,
        ALTER COLUMN name SET DEFAULT '', ALTER COLUMN phone SET DEFAULT '', ALTER COLUMN email SET DEFAULT '',
        ALTER COLUMN address SET DEFAULT '', ALTER COLUMN note SET DEFAULT ''
    """,
    "CREATE INDEX customers_plain ON customers (tenant_id, id) WHERE personal IS NULL AND deleted_at IS NULL",
    "CREATE INDEX customers_phone_index ON customers (tenant_id, phone_index) WHERE phone_index IS NOT NULL",
    "CREATE INDEX customers_email_index ON customers (tenant_id, email_index) WHERE email_index IS NOT NULL",
    "CREATE INDEX customers_name_index ON customers USING gin (name_index)",
    "CREATE INDEX customers_sound_index ON customers USING gin (sound_index)",
    "CREATE INDEX customers_updated ON customers (tenant_id, updated_at, id)",
    # They hold names and numbers in clear.
    "DROP INDEX customers_words",
    "DROP INDEX customers_phone",
    # Operators of arrays are not leakproof, so under row-level security they come after the fence and use no index: hence these two,
    # which see past it and name the merchant themselves.
    """
    CREATE FUNCTION matching_customers(wanted bytea[]) RETURNS SETOF text
    LANGUAGE sql STABLE ROWS 20 SECURITY DEFINER SET search_path = public, pg_temp AS $body$
        SELECT c.id FROM customers c WHERE c.tenant_id = current_setting('gipos.tenant_id', true) AND c.name_index @> wanted
    $body$
    """,
    """
    CREATE FUNCTION sounding_customers(wanted bytea[]) RETURNS SETOF text
    LANGUAGE sql STABLE ROWS 20 SECURITY DEFINER SET search_path = public, pg_temp AS $body$
        SELECT c.id FROM customers c WHERE c.tenant_id = current_setting('gipos.tenant_id', true) AND c.sound_index && wanted
    $body$
    """,
    "REVOKE ALL ON FUNCTION matching_customers(bytea[]), sounding_customers(bytea[]) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION matching_customers(bytea[]), sounding_customers(bytea[]) TO gipos_app, gipos_system",
    "ALTER TABLE webhooks ADD COLUMN secret_sealed bytea, ALTER COLUMN secret SET DEFAULT ''",
    "CREATE INDEX webhooks_plain ON webhooks (tenant_id, id) WHERE secret <> ''",
)

FENCED = ("audit_entries", "audit_heads")
_BATCH = 1000


def upgrade() -> None:
    """Adds everything, and masks the personal data in events that were recorded before."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement.replace(":", "\\:")))
    for table in (*FENCED, "tenant_keys", "key_checks"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY everything ON {table} TO gipos_system USING (true)")
    for table in FENCED:
        op.execute(f"CREATE POLICY tenant ON {table} TO gipos_app USING (tenant_id = current_setting('gipos.tenant_id', true))")
    _mask_events()


def _mask_events() -> None:
    connection = op.get_bind()
    place = ("", "", 0)
    read = sa.text(
        "SELECT tenant_id, lane, seq, body FROM events WHERE (tenant_id, lane, seq) > (:tenant_id, :lane, :seq) "
        "AND type LIKE 'customer.%' ORDER BY tenant_id, lane, seq LIMIT :batch"
    )
    write = sa.text("UPDATE events SET body = :body WHERE tenant_id = :tenant_id AND lane = :lane AND seq = :seq")
    while True:
        where = {"tenant_id": place[0], "lane": place[1], "seq": place[2]}
        rows = connection.execute(read, {**where, "batch": _BATCH}).all()
        if not rows:
            return
        bodies = [masked(Customer.FromString(row.body)).SerializeToString() for row in rows]
        connection.execute(
            write,
            [
                {"tenant_id": row.tenant_id, "lane": row.lane, "seq": row.seq, "body": body}
                for row, body in zip(rows, bodies, strict=True)
            ],
        )
        place = (rows[-1].tenant_id, rows[-1].lane, rows[-1].seq)
