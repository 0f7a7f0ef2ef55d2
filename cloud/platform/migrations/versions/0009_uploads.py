"""What tills upload: the clock of each sale, which operations a life of a till consists of, counts, and a quarantine to work with."""

from __future__ import annotations

import importlib

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    # forked_epoch: a life in which two tablets were met; the next of them that says hello with it gets a new one.
    "ALTER TABLE till_links ADD COLUMN forked_epoch bigint NOT NULL DEFAULT 0, ADD COLUMN forked_at timestamptz",
    # claimed_seq: the highest acknowledged number a till has shown although the cloud had forgotten it.
    # seen_seq: of the last operation; no later one of this life has seen less of the log.
    """
    ALTER TABLE till_stores ADD COLUMN claimed_seq bigint NOT NULL DEFAULT 0, ADD COLUMN seen_seq bigint NOT NULL DEFAULT 0
    """,
    # Which operations the numbers of a life belong to, eight bytes of a hash for each, and the log position their effects reached.
    """
    CREATE TABLE till_batches (
        tenant_id text NOT NULL, till_id text NOT NULL, store_epoch bigint NOT NULL, last_op_seq bigint NOT NULL,
        first_op_seq bigint NOT NULL, log_seq bigint NOT NULL, marks bytea NOT NULL,
        PRIMARY KEY (tenant_id, till_id, store_epoch, last_op_seq)
    )
    """,
    "ALTER TABLE till_batches ALTER COLUMN marks SET STORAGE EXTERNAL",  # hashes do not get smaller by trying
    """
    ALTER TABLE sales ADD COLUMN store_epoch bigint NOT NULL DEFAULT 0, ADD COLUMN op_seq bigint NOT NULL DEFAULT 0,
        ADD COLUMN device_clock timestamptz, ADD COLUMN clock_offset_ms bigint, ADD COLUMN clock_uncertainty_ms bigint,
        ADD COLUMN clock_state smallint NOT NULL DEFAULT 0
    """,
    """
    CREATE TABLE stock_counts (
        tenant_id text NOT NULL, id text NOT NULL, till_id text NOT NULL, store_epoch bigint NOT NULL, op_seq bigint NOT NULL,
        outlet_id text NOT NULL, product_id text NOT NULL, counted bigint NOT NULL, expected bigint NOT NULL, difference bigint NOT NULL,
        seen_seq bigint NOT NULL, review_reasons text[] NOT NULL, note text NOT NULL, counted_at timestamptz NOT NULL,
        device_clock timestamptz, clock_offset_ms bigint, clock_uncertainty_ms bigint, clock_state smallint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, id)
    )
    """,
    "CREATE INDEX stock_counts_product ON stock_counts (tenant_id, product_id, outlet_id, created_at)",
    """
    ALTER TABLE quarantined_operations
        ADD COLUMN id text NOT NULL DEFAULT '', ADD COLUMN outlet_id text NOT NULL DEFAULT '',
        ADD COLUMN kind text NOT NULL DEFAULT 'unknown', ADD COLUMN status text NOT NULL DEFAULT 'open',
        ADD COLUMN occurred_at timestamptz, ADD COLUMN settled_at timestamptz, ADD COLUMN settled_by text NOT NULL DEFAULT '',
        ADD COLUMN discard_reason text NOT NULL DEFAULT '', ADD COLUMN sale_id text NOT NULL DEFAULT ''
    """,
    # An md5 is written with letters that ids may have.
    """
    UPDATE quarantined_operations
    SET id = 'qop_' || substr(md5(concat_ws(':', tenant_id, till_id, store_epoch, op_seq)), 1, 26),
        outlet_id = coalesce((SELECT t.outlet_id FROM tills t
                              WHERE t.tenant_id = quarantined_operations.tenant_id AND t.id = quarantined_operations.till_id), '')
    """,
    "CREATE UNIQUE INDEX quarantined_operations_id ON quarantined_operations (tenant_id, id) WHERE id <> ''",
    "CREATE INDEX quarantined_operations_open ON quarantined_operations (tenant_id, till_id) WHERE status = 'open'",
    # Of the whole database: which one it is. A restored one is another, and everybody's copy of its log is no continuation.
    "CREATE TABLE log_origins (id boolean PRIMARY KEY DEFAULT true CHECK (id), origin text NOT NULL, since timestamptz NOT NULL)",
    "GRANT SELECT, INSERT, UPDATE ON log_origins TO gipos_system",
    "ALTER TABLE log_origins ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY everything ON log_origins TO gipos_system USING (true)",
)

FENCED = ("till_batches", "stock_counts")


def upgrade() -> None:
    """Adds everything."""
    first = importlib.import_module("cloud.platform.migrations.versions.0001_first_schema")
    for statement in STATEMENTS:
        op.execute(statement)
    for table in FENCED:
        first.fence(table)


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
