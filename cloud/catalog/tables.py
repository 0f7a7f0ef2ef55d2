"""Rows of the catalogue."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from cloud.platform.database import metadata

products = sa.Table(
    "products",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sku", sa.Text, nullable=False),
    sa.Column("barcodes", ARRAY(sa.Text), nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger),
    sa.Column("tax_class", sa.SmallInteger, nullable=False),
    sa.Column("image_url", sa.Text, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("deleted_at", sa.TIMESTAMP(timezone=True)),
)

product_barcodes = sa.Table(
    "product_barcodes",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("code", sa.Text, primary_key=True),
    sa.Column("product_id", sa.Text, nullable=False),
)

# Made by the database from name and sku, in lower case: lists are ordered and searched by them, nobody else reads them.
name_key: sa.ColumnElement[str] = sa.literal_column("products.name_key", sa.Text())
sku_key: sa.ColumnElement[str] = sa.literal_column("products.sku_key", sa.Text())

product_conflicts = sa.Table(
    "product_conflicts",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("product_id", sa.Text, nullable=False),
    sa.Column("field", sa.Text, nullable=False),
    sa.Column("reason", sa.SmallInteger, nullable=False),
    # Both are serialised gipos.v1.ProductValues.
    sa.Column("ours", sa.LargeBinary, nullable=False),
    sa.Column("theirs", sa.LargeBinary, nullable=False),
    sa.Column("till_id", sa.Text, nullable=False),
    sa.Column("operation_id", sa.Text, nullable=False),
    sa.Column("base_version", sa.BigInteger, nullable=False),
    sa.Column("met_version", sa.BigInteger, nullable=False),
    # "open" or "resolved".
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("choice", sa.Text, nullable=False),
    sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("resolved_at", sa.TIMESTAMP(timezone=True)),
)
