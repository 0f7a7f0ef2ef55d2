"""The first schema: accounts, catalogue, stock, customers, sales, the log and the link.

Every primary key begins with tenant_id, so that the schema can be distributed or partitioned by tenant without a redesign. Row-level
security is the second fence: gipos_app sees the rows of the tenant its transaction is set to, gipos_system sees all.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE tenants (
    tenant_id text PRIMARY KEY, name text NOT NULL, tax_class smallint NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE outlets (
    tenant_id text NOT NULL, id text NOT NULL, name text NOT NULL, code text NOT NULL, address text NOT NULL, time_zone text NOT NULL,
    tax_number text NOT NULL, prices_include_tax boolean NOT NULL, receipt_footer text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, code)
);
CREATE TABLE tills (
    tenant_id text NOT NULL, id text NOT NULL, outlet_id text NOT NULL, name text NOT NULL, number integer NOT NULL,
    token_fingerprint bytea NOT NULL UNIQUE, created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, outlet_id, number)
);
CREATE TABLE api_keys (
    tenant_id text NOT NULL, id text NOT NULL, name text NOT NULL, mode text NOT NULL, fingerprint bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), revoked_at timestamptz, PRIMARY KEY (tenant_id, id)
);
CREATE TABLE idempotency_keys (
    tenant_id text NOT NULL, method text NOT NULL, key text NOT NULL, fingerprint bytea NOT NULL, answer bytea,
    created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, method, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
CREATE TABLE log_heads (
    tenant_id text NOT NULL, lane text NOT NULL, epoch bigint NOT NULL DEFAULT 1, last_seq bigint NOT NULL DEFAULT 0,
    floor_seq bigint NOT NULL DEFAULT 1, PRIMARY KEY (tenant_id, lane)
) WITH (fillfactor = 50);
CREATE TABLE events (
    tenant_id text NOT NULL, lane text NOT NULL, seq bigint NOT NULL, id text NOT NULL, type text NOT NULL, subject_id text NOT NULL,
    version bigint NOT NULL, outlet_id text NOT NULL, body bytea NOT NULL, occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, lane, seq), UNIQUE (tenant_id, id)
);
CREATE TABLE products (
    tenant_id text NOT NULL, id text NOT NULL, name text NOT NULL, sku text NOT NULL, barcodes text[] NOT NULL, category text NOT NULL,
    unit text NOT NULL, price bigint NOT NULL, cost bigint, tax_class smallint NOT NULL, image_url text NOT NULL, active boolean NOT NULL,
    external_id text NOT NULL, version bigint NOT NULL DEFAULT 1, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    deleted_at timestamptz, PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX products_sku ON products (tenant_id, sku) WHERE sku <> '' AND deleted_at IS NULL;
CREATE UNIQUE INDEX products_external_id ON products (tenant_id, external_id) WHERE external_id <> '' AND deleted_at IS NULL;
CREATE INDEX products_updated ON products (tenant_id, updated_at, id);
CREATE INDEX products_category ON products (tenant_id, category, id);
CREATE INDEX products_words ON products USING gin (to_tsvector('simple', name));
CREATE TABLE product_barcodes (
    tenant_id text NOT NULL, code text NOT NULL, product_id text NOT NULL, PRIMARY KEY (tenant_id, code)
);
CREATE INDEX product_barcodes_product ON product_barcodes (tenant_id, product_id);
CREATE TABLE levels (
    tenant_id text NOT NULL, outlet_id text NOT NULL, product_id text NOT NULL, on_hand bigint NOT NULL DEFAULT 0,
    reserved bigint NOT NULL DEFAULT 0, version bigint NOT NULL DEFAULT 1, updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, outlet_id, product_id)
) WITH (fillfactor = 70);
CREATE INDEX levels_product ON levels (tenant_id, product_id);
CREATE TABLE movements (
    tenant_id text NOT NULL, id text NOT NULL, outlet_id text NOT NULL, product_id text NOT NULL, quantity bigint NOT NULL,
    on_hand_after bigint NOT NULL, reason text NOT NULL, sale_id text NOT NULL, note text NOT NULL, created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX movements_product ON movements (tenant_id, product_id, id);
CREATE TABLE customers (
    tenant_id text NOT NULL, id text NOT NULL, name text NOT NULL, phone text NOT NULL, email text NOT NULL, address text NOT NULL,
    note text NOT NULL, external_id text NOT NULL, version bigint NOT NULL DEFAULT 1, created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX customers_external_id ON customers (tenant_id, external_id) WHERE external_id <> '';
CREATE INDEX customers_phone ON customers (tenant_id, phone) WHERE phone <> '';
CREATE INDEX customers_words ON customers USING gin (to_tsvector('simple', name));
CREATE TABLE sales (
    tenant_id text NOT NULL, id text NOT NULL, number text NOT NULL, outlet_id text NOT NULL, till_id text NOT NULL, channel text NOT NULL,
    customer_id text NOT NULL, status smallint NOT NULL, business_date date NOT NULL, total bigint NOT NULL, external_id text NOT NULL,
    version bigint NOT NULL DEFAULT 1, body bytea NOT NULL, sold_at timestamptz NOT NULL, created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX sales_external_id ON sales (tenant_id, external_id) WHERE external_id <> '';
CREATE INDEX sales_date ON sales (tenant_id, business_date, id);
CREATE INDEX sales_time ON sales (tenant_id, sold_at DESC, id DESC);
CREATE INDEX sales_outlet ON sales (tenant_id, outlet_id, sold_at DESC, id DESC);
CREATE INDEX sales_till ON sales (tenant_id, till_id, length(number) DESC, number DESC) WHERE till_id <> '' AND number <> '';
CREATE INDEX sales_number ON sales (tenant_id, number) WHERE number <> '';
CREATE TABLE till_links (
    tenant_id text NOT NULL, till_id text NOT NULL, session bigint NOT NULL, store_epoch bigint NOT NULL, connected_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, till_id)
) WITH (fillfactor = 50);
CREATE TABLE till_stores (
    tenant_id text NOT NULL, till_id text NOT NULL, store_epoch bigint NOT NULL, op_watermark bigint NOT NULL DEFAULT 0,
    log_seq bigint NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, till_id, store_epoch)
) WITH (fillfactor = 50);
CREATE TABLE quarantined_operations (
    tenant_id text NOT NULL, till_id text NOT NULL, store_epoch bigint NOT NULL, op_seq bigint NOT NULL, reason text NOT NULL,
    message text NOT NULL, operation bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, till_id, store_epoch, op_seq)
);
"""

FENCED = (
    "tenants", "outlets", "tills", "api_keys", "idempotency_keys", "log_heads", "events", "products", "product_barcodes", "levels",
    "movements", "customers", "sales", "till_links", "till_stores", "quarantined_operations",
)  # fmt: skip


def fence(table: str) -> None:
    """Grants a table to the two roles and fences gipos_app to its tenant. Later migrations do the same for their tables."""
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO gipos_app, gipos_system")
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} TO gipos_app USING (tenant_id = current_setting('gipos.tenant_id', true))")
    op.execute(f"CREATE POLICY everything ON {table} TO gipos_system USING (true)")


def upgrade() -> None:
    """Creates everything."""
    for role in ("gipos_app", "gipos_system"):
        # Roles belong to the whole server: another database of ours may have made them.
        op.execute(
            f"""DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} NOLOGIN; END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
        )
        op.execute(f"GRANT {role} TO CURRENT_USER")
        op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)
    for table in FENCED:
        fence(table)
