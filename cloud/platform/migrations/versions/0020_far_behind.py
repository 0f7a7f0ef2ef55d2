"""A hello that names an acknowledged operation far below what is stored is left to the rules.

A till has two batches of 500 under way at most. One that lacks more than those is another tablet, and what would tell the two apart
operation by operation may be forgotten already.
"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

BEFORE = "OR acknowledged > GREATEST(stored, claimed)"
AFTER = f"{BEFORE}\n        OR (NOT is_old AND stored - acknowledged > 1000)"


def upgrade() -> None:
    """Puts the function in its place; the rule in cloud/sync/uploads.py says the same."""
    made: str = importlib.import_module("cloud.platform.migrations.versions.0015_hellos").HELLO
    met = importlib.import_module("cloud.platform.migrations.versions.0019_met_in_one_life")
    changed = made.replace(met.BEFORE, met.AFTER).replace(BEFORE, AFTER).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    if changed.count(met.AFTER) != 1 or changed.count(AFTER) != 1 or "OR REPLACE" not in changed:
        raise RuntimeError("migration 0015 is not what this one changes")
    op.execute(changed)


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
