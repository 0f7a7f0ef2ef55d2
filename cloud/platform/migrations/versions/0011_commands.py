"""Commands to tills: what somebody wants done on a tablet, and what became of it."""

from __future__ import annotations

import importlib

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# status: waiting, sent, done, failed, expired, unsupported. `body` is a serialised gipos.edge.v1.Command.
STATEMENTS = (
    """
    CREATE TABLE till_commands (
        tenant_id text NOT NULL, id text NOT NULL, till_id text NOT NULL, kind text NOT NULL, status text NOT NULL DEFAULT 'waiting',
        message text NOT NULL DEFAULT '', body bytea NOT NULL, created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL,
        sent_at timestamptz, settled_at timestamptz, PRIMARY KEY (tenant_id, id)
    )
    """,
    "CREATE INDEX till_commands_open ON till_commands (tenant_id, till_id, id) WHERE status IN ('waiting', 'sent')",
    "CREATE INDEX till_commands_old ON till_commands (created_at)",
)


def upgrade() -> None:
    """Creates everything."""
    first = importlib.import_module("cloud.platform.migrations.versions.0001_first_schema")
    for statement in STATEMENTS:
        op.execute(statement)
    first.fence("till_commands")


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
