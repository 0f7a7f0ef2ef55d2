"""Identity: the mode of a merchant's data, what an API key may be limited by, OAuth clients with their grants and tokens."""

from __future__ import annotations

from importlib import import_module

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Test data and live data of one merchant are two tenants (docs/decisions/0008). A merchant who has a live key is live.
COLUMNS = """
ALTER TABLE tenants
    ADD COLUMN mode text NOT NULL DEFAULT 'test' CHECK (mode IN ('test', 'live')),
    ADD COLUMN sibling_id text NOT NULL DEFAULT '';
UPDATE tenants t SET mode = 'live' WHERE EXISTS (SELECT FROM api_keys k WHERE k.tenant_id = t.tenant_id AND k.mode = 'live');
ALTER TABLE api_keys
    ADD COLUMN hint text NOT NULL DEFAULT '', ADD COLUMN allowed_addresses text[] NOT NULL DEFAULT '{}',
    ADD COLUMN addresses_dry_run boolean NOT NULL DEFAULT false, ADD COLUMN allowed_origins text[] NOT NULL DEFAULT '{}',
    ADD COLUMN expires_at timestamptz, ADD COLUMN predecessor_id text NOT NULL DEFAULT '',
    ADD COLUMN successor_id text NOT NULL DEFAULT '', ADD COLUMN requests_per_second integer NOT NULL DEFAULT 0;
UPDATE api_keys SET hint = 'gipos_' || mode || '_…';
"""

# oauth_tokens.kind: 1 access, 2 refresh. Of codes, tokens and secrets only the SHA-256 is kept.
TABLES = """
CREATE TABLE credential_uses (
    tenant_id text NOT NULL, subject_id text NOT NULL, last_used_at timestamptz, last_used_address text NOT NULL DEFAULT '',
    foreign_count bigint NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, subject_id)
) WITH (fillfactor = 50);
CREATE TABLE credential_changes (
    tenant_id text NOT NULL, subject_id text NOT NULL, changed_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, subject_id)
);
CREATE INDEX credential_changes_recent ON credential_changes (changed_at);
CREATE TABLE oauth_clients (
    tenant_id text NOT NULL, id text NOT NULL UNIQUE, name text NOT NULL, mode text NOT NULL, scopes text[] NOT NULL,
    grant_types text[] NOT NULL, redirect_uris text[] NOT NULL, secret_fingerprint bytea, is_public boolean NOT NULL,
    created_at timestamptz NOT NULL, deleted_at timestamptz, PRIMARY KEY (tenant_id, id)
);
CREATE TABLE oauth_grants (
    tenant_id text NOT NULL, id text NOT NULL, client_id text NOT NULL, key_id text NOT NULL, scopes text[] NOT NULL,
    created_at timestamptz NOT NULL, revoked_at timestamptz, PRIMARY KEY (tenant_id, id)
);
CREATE TABLE oauth_codes (
    tenant_id text NOT NULL, fingerprint bytea NOT NULL UNIQUE, grant_id text NOT NULL, client_id text NOT NULL,
    redirect_uri text NOT NULL, challenge text NOT NULL, expires_at timestamptz NOT NULL, used_at timestamptz,
    PRIMARY KEY (tenant_id, fingerprint)
);
CREATE INDEX oauth_codes_age ON oauth_codes (expires_at);
CREATE TABLE oauth_tokens (
    tenant_id text NOT NULL, id text NOT NULL, kind smallint NOT NULL, fingerprint bytea NOT NULL UNIQUE, client_id text NOT NULL,
    grant_id text NOT NULL DEFAULT '', scopes text[] NOT NULL, created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL,
    used_at timestamptz, revoked_at timestamptz, PRIMARY KEY (tenant_id, id)
);
CREATE INDEX oauth_tokens_age ON oauth_tokens (expires_at);
CREATE INDEX oauth_tokens_grant ON oauth_tokens (tenant_id, grant_id) WHERE grant_id <> '';
"""

FENCED = ("credential_uses", "credential_changes", "oauth_clients", "oauth_grants", "oauth_codes", "oauth_tokens")


def upgrade() -> None:
    """Adds everything; nothing the release before needs is taken away."""
    fence = import_module("cloud.platform.migrations.versions.0001_first_schema").fence
    for statement in (COLUMNS + TABLES).split(";"):
        if statement.strip():
            op.execute(statement)
    for table in FENCED:
        fence(table)
