"""A hello in a life in which two tablets were met goes on only when it was acknowledged exactly what is stored.

Less is the tablet that is behind, as before. More is one of the two before a cloud that was restored: if both went on under the old
numbers, each would send its own operations under them, and the cloud would take neither's.
"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

BEFORE, AFTER = "before.forked_epoch = life AND acknowledged < stored", "before.forked_epoch = life AND acknowledged <> stored"


def upgrade() -> None:
    """Puts the function in its place; the rule in cloud/sync/uploads.py says the same."""
    made: str = importlib.import_module("cloud.platform.migrations.versions.0015_hellos").HELLO
    changed = made.replace(BEFORE, AFTER).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    if changed.count(AFTER) != 1 or "OR REPLACE" not in changed:
        raise RuntimeError("migration 0015 is not what this one changes")
    op.execute(changed)


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
