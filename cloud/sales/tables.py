"""Rows of the sales feature. The sale itself is kept whole, as it was said; the columns beside it are for finding it."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from cloud.platform.database import metadata

sales = sa.Table(
    "sales",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("number", sa.Text, nullable=False),
    sa.Column("outlet_id", sa.Text, nullable=False),
    sa.Column("till_id", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("business_date", sa.Date, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("sold_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("cashier", sa.Text, nullable=False),
    sa.Column("payment_methods", ARRAY(sa.Text), nullable=False),
)


def joined(values: Iterable[str]) -> str:
    """Distinct texts as one, for string_to_array with chr(31): arrays of arrays of different lengths cannot be unnested."""
    return "\x1f".join(sorted({value for value in values if value}))
