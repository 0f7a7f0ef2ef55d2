"""Rows of the link: how far each till is, which operations it has sent, what could not be stored, and what was counted."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from cloud.platform.database import metadata

till_links = sa.Table(
    "till_links",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, primary_key=True),
    # Counts the links the till has opened: the newest fences the others.
    sa.Column("session", sa.BigInteger, nullable=False),
    # The newest life that has said hello.
    sa.Column("store_epoch", sa.BigInteger, nullable=False),
    sa.Column("connected_at", sa.TIMESTAMP(timezone=True), nullable=False),
    # A life in which two tablets were met; the one of them that is behind gets a new life at its next hello. 0 for none.
    sa.Column("forked_epoch", sa.BigInteger, nullable=False, server_default="0"),
    # When a second tablet was last noticed.
    sa.Column("forked_at", sa.TIMESTAMP(timezone=True)),
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
    # The highest acknowledged number the till has shown although the cloud had forgotten it.
    sa.Column("claimed_seq", sa.BigInteger, nullable=False, server_default="0"),
    # What the last operation had seen of the outlet's lane; no later one of this life has seen less.
    sa.Column("seen_seq", sa.BigInteger, nullable=False, server_default="0"),
)

# Which operations the newest numbers of a life belong to, and where in the outlet's lane their effects ended.
till_batches = sa.Table(
    "till_batches",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, primary_key=True),
    sa.Column("store_epoch", sa.BigInteger, primary_key=True),
    sa.Column("last_op_seq", sa.BigInteger, primary_key=True),
    sa.Column("first_op_seq", sa.BigInteger, nullable=False),
    sa.Column("log_seq", sa.BigInteger, nullable=False),
    # Eight bytes of a hash per op_id, in order.
    sa.Column("marks", sa.LargeBinary, nullable=False),
)

quarantined_operations = sa.Table(
    "quarantined_operations",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, primary_key=True),
    sa.Column("store_epoch", sa.BigInteger, primary_key=True),
    sa.Column("op_seq", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("outlet_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("operation", sa.LargeBinary, nullable=False),
    # "open", "stored" or "discarded".
    sa.Column("status", sa.Text, nullable=False, server_default="open"),
    sa.Column("occurred_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("settled_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("settled_by", sa.Text, nullable=False, server_default=""),
    sa.Column("discard_reason", sa.Text, nullable=False, server_default=""),
    sa.Column("sale_id", sa.Text, nullable=False, server_default=""),
)

stock_counts = sa.Table(
    "stock_counts",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, nullable=False),
    sa.Column("store_epoch", sa.BigInteger, nullable=False),
    sa.Column("op_seq", sa.BigInteger, nullable=False),
    sa.Column("outlet_id", sa.Text, nullable=False),
    sa.Column("product_id", sa.Text, nullable=False),
    # In thousandths: what was counted, what the till showed at that moment, and what the stock was corrected by.
    sa.Column("counted", sa.BigInteger, nullable=False),
    sa.Column("expected", sa.BigInteger, nullable=False),
    sa.Column("difference", sa.BigInteger, nullable=False),
    sa.Column("seen_seq", sa.BigInteger, nullable=False),
    sa.Column("seen_epoch", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("review_reasons", ARRAY(sa.Text), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("counted_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("device_clock", sa.TIMESTAMP(timezone=True)),
    sa.Column("clock_offset_ms", sa.BigInteger),
    sa.Column("clock_uncertainty_ms", sa.BigInteger),
    sa.Column("clock_state", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
)
