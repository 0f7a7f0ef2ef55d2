"""Where lanes stood when they began a new epoch: what a till had seen before that is judged by what is left of it."""

from __future__ import annotations

import importlib

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Of the lane's epoch: its first position is the one after last_seq.
    """
    CREATE TABLE log_restores (
        tenant_id text NOT NULL, lane text NOT NULL, epoch bigint NOT NULL, last_seq bigint NOT NULL, noticed_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, lane, epoch)
    )
    """,
    "ALTER TABLE stock_counts ADD COLUMN seen_epoch bigint NOT NULL DEFAULT 0",
)


def upgrade() -> None:
    """Adds them."""
    for statement in STATEMENTS:
        op.execute(statement)
    importlib.import_module("cloud.platform.migrations.versions.0001_first_schema").fence("log_restores")


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
