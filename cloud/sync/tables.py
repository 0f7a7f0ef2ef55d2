"""Rows of the link: how far each till is, and what could not be understood."""

from __future__ import annotations

import sqlalchemy as sa

from cloud.platform.database import metadata

till_links = sa.Table(
    "till_links",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, primary_key=True),
    # Counts the links the till has opened: the newest fences the others.
    sa.Column("session", sa.BigInteger, nullable=False),
    sa.Column("store_epoch", sa.BigInteger, nullable=False),
    sa.Column("connected_at", sa.TIMESTAMP(timezone=True), nullable=False),
)

# One row per life of a till's store. An old store that comes back goes on where it was.
till_stores = sa.Table(
    "till_stores",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, primary_key=True),
    sa.Column("store_epoch", sa.BigInteger, primary_key=True),
    sa.Column("op_watermark", sa.BigInteger, nullable=False),
    # The last position the effects of the watermark reached in the outlet's lane.
    sa.Column("log_seq", sa.BigInteger, nullable=False),
)

quarantined_operations = sa.Table(
    "quarantined_operations",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, primary_key=True),
    sa.Column("store_epoch", sa.BigInteger, primary_key=True),
    sa.Column("op_seq", sa.BigInteger, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("operation", sa.LargeBinary, nullable=False),
)
