"""Rows of the audit feature."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from cloud.platform.database import metadata

audit_entries = sa.Table(
    "audit_entries",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("actor_type", sa.Text, nullable=False),
    sa.Column("actor_id", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("resource_type", sa.Text, nullable=False),
    sa.Column("resource_ids", ARRAY(sa.Text), nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("fields", ARRAY(sa.Text), nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("user_agent", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    # The seal: all NULL until the sealer comes by, set once.
    sa.Column("seq", sa.BigInteger),
    sa.Column("previous_hash", sa.LargeBinary),
    sa.Column("hash", sa.LargeBinary),
)

audit_heads = sa.Table(
    "audit_heads",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
