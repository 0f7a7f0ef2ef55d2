"""Rows of the limits feature. The charging function of migration 0004 writes limit_states and usage_days; here they are read."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from cloud.platform.database import metadata

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("daily_limit", sa.BigInteger),
    sa.Column("requests_per_second", sa.Integer, nullable=False),
    sa.Column("concurrent_limit", sa.Integer, nullable=False),
)

limit_states = sa.Table(
    "limit_states",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sa.Column("till_messages", sa.BigInteger, nullable=False),
    sa.Column("tat", sa.Double, nullable=False),
    sa.Column("slots", JSONB, nullable=False),
    sa.Column("streams", JSONB, nullable=False),
)

usage_days = sa.Table(
    "usage_days",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sa.Column("till_messages", sa.BigInteger, nullable=False),
)
