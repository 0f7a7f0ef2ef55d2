"""Rows of the tills feature. The tills themselves and their certificates belong to accounts, which lets them in."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from cloud.platform.database import metadata

pairing_codes = sa.Table(
    "pairing_codes",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("outlet_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("replaces", sa.Text, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("ends_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("used_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("enrolment_id", sa.Text, nullable=False, server_default=""),
    sa.Column("till_id", sa.Text, nullable=False, server_default=""),
    sa.Column("certificate", sa.LargeBinary),
)

presences = sa.Table(
    "till_presences",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, primary_key=True),
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("is_online", sa.Boolean, nullable=False),
    sa.Column("since_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("heard_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("waiting_operations", sa.BigInteger, nullable=False),
    sa.Column("software_version", sa.Text, nullable=False),
    sa.Column("clock_offset_ms", sa.BigInteger, nullable=False),
    sa.Column("forked_at", sa.TIMESTAMP(timezone=True)),
)

offline_policies = sa.Table(
    "offline_policies",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("outlet_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("longest_hours", sa.Integer, nullable=False),
    sa.Column("most_sales", sa.Integer, nullable=False),
    sa.Column("most_amount", sa.BigInteger, nullable=False),
    sa.Column("tenders", ARRAY(sa.Text), nullable=False),
    sa.Column("override_minutes", sa.Integer, nullable=False),
    sa.Column("supervisor_pins", ARRAY(sa.Text), nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("signs_from", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("ends_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("public", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

till_commands = sa.Table(
    "till_commands",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("till_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    # "waiting", "sent", "done", "failed", "expired" or "unsupported".
    sa.Column("status", sa.Text, nullable=False, server_default="waiting"),
    sa.Column("message", sa.Text, nullable=False, server_default=""),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("sent_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("settled_at", sa.TIMESTAMP(timezone=True)),
)
