"""Tills as tablets: states, certificates, pairing codes, how they are connected, and what they may do without the internet."""

from __future__ import annotations

import importlib

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    # A till that was paired has a certificate and no token.
    """
    ALTER TABLE tills ADD COLUMN state text NOT NULL DEFAULT 'active', ADD COLUMN hardware text NOT NULL DEFAULT '',
        ADD COLUMN paired_at timestamptz, ADD COLUMN state_reason text NOT NULL DEFAULT '', ALTER COLUMN token_fingerprint DROP NOT NULL
    """,
    # Whoever shows one of these proves with it that he holds the till's key. Rows stay: they are what was once trusted.
    """
    CREATE TABLE till_certificates (
        tenant_id text NOT NULL, fingerprint bytea NOT NULL UNIQUE, till_id text NOT NULL, serial text NOT NULL, certificate bytea NOT NULL,
        starts_at timestamptz NOT NULL, ends_at timestamptz NOT NULL, revoked_at timestamptz,
        PRIMARY KEY (tenant_id, fingerprint)
    )
    """,
    "CREATE INDEX till_certificates_of ON till_certificates (tenant_id, till_id, ends_at)",
    """
    CREATE TABLE pairing_codes (
        tenant_id text NOT NULL, id text NOT NULL, hash bytea NOT NULL UNIQUE, outlet_id text NOT NULL, name text NOT NULL,
        replaces text NOT NULL, created_at timestamptz NOT NULL, ends_at timestamptz NOT NULL, used_at timestamptz,
        enrolment_id text NOT NULL DEFAULT '', till_id text NOT NULL DEFAULT '', certificate bytea,
        PRIMARY KEY (tenant_id, id)
    )
    """,
    "CREATE INDEX pairing_codes_old ON pairing_codes (ends_at)",
    """
    CREATE TABLE till_presences (
        tenant_id text NOT NULL, till_id text NOT NULL, connection text NOT NULL, is_online boolean NOT NULL,
        since_at timestamptz NOT NULL, heard_at timestamptz NOT NULL, waiting_operations bigint NOT NULL DEFAULT 0,
        software_version text NOT NULL DEFAULT '', clock_offset_ms bigint NOT NULL DEFAULT 0, forked_at timestamptz,
        PRIMARY KEY (tenant_id, till_id)
    ) WITH (fillfactor = 60)
    """,
    """
    CREATE TABLE offline_policies (
        tenant_id text NOT NULL, outlet_id text NOT NULL, version bigint NOT NULL, longest_hours integer NOT NULL,
        most_sales integer NOT NULL, most_amount bigint NOT NULL, tenders text[] NOT NULL, override_minutes integer NOT NULL,
        supervisor_pins text[] NOT NULL, updated_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, outlet_id)
    )
    """,
    # Of the whole platform, not of a merchant: what certificates and policies are signed with. `kind` is authority or policy.
    """
    CREATE TABLE signing_keys (
        kind text NOT NULL, id text NOT NULL, created_at timestamptz NOT NULL, signs_from timestamptz NOT NULL,
        ends_at timestamptz NOT NULL, public bytea NOT NULL, sealed bytea NOT NULL, PRIMARY KEY (kind, id)
    )
    """,
    # Nothing for gipos_app: what serves callers has no business with sealed keys.
    "GRANT SELECT, INSERT, UPDATE ON signing_keys TO gipos_system",
    "ALTER TABLE signing_keys ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY everything ON signing_keys TO gipos_system USING (true)",
)

FENCED = ("till_certificates", "pairing_codes", "till_presences", "offline_policies")


def upgrade() -> None:
    """Creates everything."""
    first = importlib.import_module("cloud.platform.migrations.versions.0001_first_schema")
    for statement in STATEMENTS:
        op.execute(statement)
    for table in FENCED:
        first.fence(table)


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
