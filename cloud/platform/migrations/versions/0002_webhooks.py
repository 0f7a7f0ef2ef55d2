"""Webhooks, and the deliveries that are queue and log at once."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# status: 1 pending, 2 succeeded, 3 failed (gipos.v1.DeliveryStatus); of webhooks: 1 active, 2 disabled (WebhookStatus).
TABLES = """
CREATE TABLE webhooks (
    tenant_id text NOT NULL, id text NOT NULL, url text NOT NULL, event_types text[] NOT NULL, description text NOT NULL,
    status smallint NOT NULL DEFAULT 1, secret text NOT NULL, paused_until timestamptz, created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70);
CREATE TABLE deliveries (
    tenant_id text NOT NULL, id text NOT NULL, webhook_id text NOT NULL, event_id text NOT NULL, event_type text NOT NULL,
    status smallint NOT NULL DEFAULT 1, attempt_count integer NOT NULL DEFAULT 0, due_at timestamptz NOT NULL,
    leased_until timestamptz, lease_owner integer, created_at timestamptz NOT NULL, settled_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX deliveries_listed ON deliveries (tenant_id, webhook_id, event_id);
CREATE INDEX deliveries_failed ON deliveries (tenant_id, webhook_id, event_id) WHERE status = 3;
CREATE INDEX deliveries_due ON deliveries (tenant_id, webhook_id, due_at, event_id) WHERE status = 1;
CREATE INDEX deliveries_leased ON deliveries (tenant_id, webhook_id) WHERE leased_until IS NOT NULL;
CREATE TABLE delivery_attempts (
    tenant_id text NOT NULL, delivery_id text NOT NULL, number integer NOT NULL, result text NOT NULL,
    response_status integer NOT NULL, response_body text NOT NULL, duration_ms integer NOT NULL, created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id, number)
);
"""

FENCED = ("webhooks", "deliveries", "delivery_attempts")


def fence(table: str) -> None:
    """Grants a table to the two roles and fences gipos_app to its tenant."""
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO gipos_app, gipos_system")
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} TO gipos_app USING (tenant_id = current_setting('gipos.tenant_id', true))")
    op.execute(f"CREATE POLICY everything ON {table} TO gipos_system USING (true)")


def upgrade() -> None:
    """Creates everything."""
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)
    for table in FENCED:
        fence(table)
