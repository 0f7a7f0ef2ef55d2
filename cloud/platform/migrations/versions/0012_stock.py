"""Stock that is promised or held back, and changes of products that stood against each other."""

from __future__ import annotations

import importlib

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATEMENTS = (
    # status: open, released, fulfilled, expired. Lines are in the order of product ids; quantities are in thousandths.
    """
    CREATE TABLE reservations (
        tenant_id text NOT NULL, id text NOT NULL, outlet_id text NOT NULL, external_id text NOT NULL,
        status text NOT NULL DEFAULT 'open', product_ids text[] NOT NULL, quantities bigint[] NOT NULL,
        version bigint NOT NULL DEFAULT 1, expires_at timestamptz NOT NULL, created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, id)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE UNIQUE INDEX reservations_external_id ON reservations (tenant_id, external_id)
        WHERE external_id <> '' AND status IN ('open', 'fulfilled')
    """,
    "CREATE INDEX reservations_outlet ON reservations (tenant_id, outlet_id, id)",
    # For listing by external_id, those that ended included.
    "CREATE INDEX reservations_order ON reservations (tenant_id, external_id, id) WHERE external_id <> ''",
    "CREATE INDEX reservations_due ON reservations (expires_at) WHERE status = 'open'",
    "CREATE INDEX reservations_old ON reservations (updated_at) WHERE status <> 'open'",
    # drained_at: the last moment at which the till was heard and had nothing left to upload. What it sells after that is unseen.
    "ALTER TABLE till_presences ADD COLUMN drained_at timestamptz",
    "UPDATE till_presences SET drained_at = heard_at WHERE waiting_operations = 0",
    """
    CREATE FUNCTION note_drained() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.waiting_operations = 0 THEN
            NEW.drained_at := NEW.heard_at;
        ELSIF TG_OP = 'UPDATE' THEN
            NEW.drained_at := OLD.drained_at;
        END IF;
        RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER till_presences_drained BEFORE INSERT OR UPDATE ON till_presences FOR EACH ROW EXECUTE FUNCTION note_drained()",
    # Outlets of which tills are silent: since when, and when to look again whether online channels must hear of it.
    """
    CREATE TABLE outlet_silences (
        tenant_id text NOT NULL, outlet_id text NOT NULL, silent_since timestamptz NOT NULL, next_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, outlet_id)
    )
    """,
    # What online channels were told is held back, in thousandths; no row for nothing.
    """
    CREATE TABLE told_buffers (
        tenant_id text NOT NULL, outlet_id text NOT NULL, product_id text NOT NULL, buffer bigint NOT NULL, told_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, outlet_id, product_id)
    )
    """,
    # The version in which each field of a product was last changed; "*" is that of all fields that are not named. Of a product that
    # was not written since this migration nothing is known, so all of its fields count as changed in its present version.
    "ALTER TABLE products ADD COLUMN field_versions jsonb NOT NULL DEFAULT '{}'",
    """ALTER TABLE products ALTER COLUMN field_versions SET DEFAULT '{"*": 1}'""",
    # Products are written by several statements, and by the release before while both run: the database itself keeps the book.
    """
    CREATE FUNCTION note_field_versions() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        known jsonb := OLD.field_versions;
    BEGIN
        IF known = '{}' THEN known := jsonb_build_object('*', OLD.version); END IF;
        IF NEW.name <> OLD.name THEN known := known || jsonb_build_object('name', NEW.version); END IF;
        IF NEW.barcodes <> OLD.barcodes THEN known := known || jsonb_build_object('barcodes', NEW.version); END IF;
        IF NEW.category <> OLD.category THEN known := known || jsonb_build_object('category', NEW.version); END IF;
        IF NEW.unit <> OLD.unit THEN known := known || jsonb_build_object('unit', NEW.version); END IF;
        IF NEW.price <> OLD.price THEN known := known || jsonb_build_object('price', NEW.version); END IF;
        IF NEW.tax_class <> OLD.tax_class THEN known := known || jsonb_build_object('tax_class', NEW.version); END IF;
        IF NEW.image_url <> OLD.image_url THEN known := known || jsonb_build_object('image_url', NEW.version); END IF;
        IF NEW.active <> OLD.active THEN known := known || jsonb_build_object('active', NEW.version); END IF;
        NEW.field_versions := known;
        RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER products_field_versions BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION note_field_versions()",
    # Which till made the last change that a till made of a field, and the version that gave.
    """
    CREATE TABLE product_edits (
        tenant_id text NOT NULL, product_id text NOT NULL, field text NOT NULL, till_id text NOT NULL, version bigint NOT NULL,
        PRIMARY KEY (tenant_id, product_id, field)
    )
    """,
    # One field each; ours and theirs are serialised gipos.v1.ProductValues. status: open, resolved. choice: ours, theirs.
    """
    CREATE TABLE product_conflicts (
        tenant_id text NOT NULL, id text NOT NULL, product_id text NOT NULL, field text NOT NULL, reason smallint NOT NULL,
        ours bytea NOT NULL, theirs bytea NOT NULL, till_id text NOT NULL, operation_id text NOT NULL, base_version bigint NOT NULL,
        met_version bigint NOT NULL, status text NOT NULL DEFAULT 'open', choice text NOT NULL DEFAULT '',
        occurred_at timestamptz NOT NULL, created_at timestamptz NOT NULL, resolved_at timestamptz, PRIMARY KEY (tenant_id, id)
    )
    """,
    "CREATE UNIQUE INDEX product_conflicts_operation ON product_conflicts (tenant_id, till_id, operation_id, field)",
    "CREATE INDEX product_conflicts_status ON product_conflicts (tenant_id, status, id)",
    "CREATE INDEX product_conflicts_product ON product_conflicts (tenant_id, product_id, id)",
)

FENCED = ("reservations", "outlet_silences", "told_buffers", "product_edits", "product_conflicts")


def upgrade() -> None:
    """Creates everything."""
    first = importlib.import_module("cloud.platform.migrations.versions.0001_first_schema")
    for statement in STATEMENTS:
        op.execute(statement)
    for table in FENCED:
        first.fence(table)


def downgrade() -> None:
    """Expand only: the release before runs on this schema."""
