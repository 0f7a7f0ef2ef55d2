"""Wrong pairing codes are counted here, so that all processes count together and none forgets."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Of the whole platform: whoever is wrong about a code has no merchant yet. `place` is a keyed hash of an address.
    "CREATE TABLE pairing_guesses (place bytea PRIMARY KEY, full_at timestamptz NOT NULL) WITH (fillfactor = 60)",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON pairing_guesses TO gipos_system",
    "ALTER TABLE pairing_guesses ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY everything ON pairing_guesses TO gipos_system USING (true)",
)


def upgrade() -> None:
    """Creates the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
