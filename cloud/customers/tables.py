"""Rows of the customers feature."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA

from cloud.platform.database import metadata

customers = sa.Table(
    "customers",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    # name, phone, email, address and note: one sealed message. NULL when the customer was erased (or comes from before sealing).
    sa.Column("personal", sa.LargeBinary),
    sa.Column("phone_index", sa.LargeBinary),
    sa.Column("email_index", sa.LargeBinary),
    sa.Column("name_index", ARRAY(BYTEA), nullable=False),
    sa.Column("sound_index", ARRAY(BYTEA), nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("deleted_at", sa.TIMESTAMP(timezone=True)),
    # Where the release before kept them in clear; emptied when the schema is brought up to date.
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("phone", sa.Text, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)
