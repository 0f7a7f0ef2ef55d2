"""Tickets that open dashboards, and the passes they become when they are used."""

from __future__ import annotations

import importlib

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# A ticket is used when it has a pass. Of both only hashes are kept.
STATEMENTS = (
    """
    CREATE TABLE dashboard_tickets (
        tenant_id text NOT NULL, id text NOT NULL, key_id text NOT NULL, viewer text NOT NULL, origin text NOT NULL,
        ticket_fingerprint bytea NOT NULL, ends_at timestamptz NOT NULL, pass_fingerprint bytea, pass_ends_at timestamptz,
        created_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, id)
    )
    """,
    "CREATE UNIQUE INDEX dashboard_tickets_ticket ON dashboard_tickets (ticket_fingerprint)",
    "CREATE UNIQUE INDEX dashboard_tickets_pass ON dashboard_tickets (pass_fingerprint) WHERE pass_fingerprint IS NOT NULL",
    "CREATE INDEX dashboard_tickets_key ON dashboard_tickets (tenant_id, key_id)",
    "CREATE INDEX dashboard_tickets_old ON dashboard_tickets (created_at)",
)


def upgrade() -> None:
    """Creates everything."""
    first = importlib.import_module("cloud.platform.migrations.versions.0001_first_schema")
    for statement in STATEMENTS:
        op.execute(statement)
    first.fence("dashboard_tickets")


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
