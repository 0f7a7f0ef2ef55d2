"""What lists need: orders to page by, search under row-level security, and up to when changes are settled.

Functions with SECURITY DEFINER look past row-level security and therefore name the tenant themselves. They are needed because a
condition that PostgreSQL does not know to be leakproof (text search, statistics of other sessions) is only tried after the
security policy, and can then use no index.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

from gipos.v1.sales_pb2 import Sale

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Words as people see them: the default parser takes "mie/bihun" for a file name and "1.5" for a number. Each is there as it is
# written and by its stem. The merchant is a term, too, so that an index on the terms of all need not look at those of the others.
_WORDS = r"""translate(name, E'\t\n' || $$-/._,+&()'":;@#%*!?=<>[]{}|\^~`$$, repeat(' ', 33))"""
_TERMS = f"""
    array_to_tsvector(ARRAY[tenant_id] || array_remove(string_to_array(lower({_WORDS}), ' '), ''))
    || to_tsvector('indonesian', {_WORDS})
"""

SCHEMA = (
    f"""
    ALTER TABLE products
        ADD COLUMN name_key text COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
        ADD COLUMN sku_key text COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(sku)) STORED,
        ADD COLUMN terms tsvector NOT NULL GENERATED ALWAYS AS ({_TERMS}) STORED
    """,
    "CREATE INDEX products_name ON products (tenant_id, name_key, id)",
    "CREATE INDEX products_price ON products (tenant_id, price, id)",
    "CREATE INDEX products_sku_key ON products (tenant_id, sku_key, id)",
    # A short pending list: neither a search nor the product that fills it waits long.
    "CREATE INDEX products_terms ON products USING gin (terms) WITH (gin_pending_list_limit = 256)",
    # Row-level security never let gipos_app use it; the release before searches no slower without.
    "DROP INDEX products_words",
    """
    CREATE FUNCTION matching_products(words text[], code text, whole text) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $body$
    DECLARE
        tenant text := current_setting('gipos.tenant_id', true);
        mine tsquery;
        wanted tsquery;
        word text;
    BEGIN
        IF coalesce(tenant, '') = '' THEN RETURN; END IF;
        mine := quote_literal(tenant)::tsquery;
        wanted := mine;
        FOR place IN 1 .. cardinality(words) LOOP
            word := quote_literal(lower(words[place])) || CASE WHEN place = cardinality(words) THEN ':*' ELSE '' END;
            wanted := wanted && (word::tsquery || to_tsquery('indonesian', word));
        END LOOP;
        RETURN QUERY
            SELECT p.id FROM products p WHERE wanted <> mine AND p.tenant_id = tenant AND p.terms @@ wanted
            UNION
            SELECT b.product_id FROM product_barcodes b WHERE b.tenant_id = tenant AND b.code = matching_products.code
            UNION
            SELECT p.id FROM products p WHERE p.tenant_id = tenant AND p.sku_key = lower(whole) AND p.sku <> '';
    END $body$
    """,
    """
    CREATE FUNCTION settled_until() RETURNS timestamptz
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        SELECT least(statement_timestamp(), min(xact_start)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'gipos_app' AND pid <> pg_backend_pid()
    $$
    """,
    "REVOKE ALL ON FUNCTION matching_products(text[], text, text), settled_until() FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION matching_products(text[], text, text), settled_until() TO gipos_app, gipos_system",
    # The defaults are for the release before, which runs beside this one for a while.
    """
    ALTER TABLE sales
        ADD COLUMN updated_at timestamptz,
        ADD COLUMN cashier text NOT NULL DEFAULT '',
        ADD COLUMN payment_methods text[] NOT NULL DEFAULT '{}'
    """,
)

AFTER_BACKFILL = (
    "ALTER TABLE sales ALTER COLUMN updated_at SET DEFAULT now(), ALTER COLUMN updated_at SET NOT NULL",
    "CREATE INDEX sales_updated ON sales (tenant_id, updated_at, id)",
    "CREATE INDEX sales_total ON sales (tenant_id, total, id)",
    "CREATE INDEX sales_customer ON sales (tenant_id, customer_id, sold_at DESC, id DESC) WHERE customer_id <> ''",
    "CREATE INDEX sales_cashier ON sales (tenant_id, cashier, sold_at DESC, id DESC) WHERE cashier <> ''",
    "CREATE INDEX sales_channel ON sales (tenant_id, channel, sold_at DESC, id DESC) WHERE channel <> 'pos'",
    "CREATE INDEX sales_status ON sales (tenant_id, status, sold_at DESC, id DESC) WHERE status <> 1",
)

_BATCH = 1000


def upgrade() -> None:
    """Adds columns, fills them from the sales that are there, then adds what needs them filled."""
    for statement in SCHEMA:
        op.execute(sa.text(statement.replace(":", "\\:")))
    _backfill()
    for statement in AFTER_BACKFILL:
        op.execute(statement)


def _backfill() -> None:
    connection = op.get_bind()
    place = ("", "")
    while True:
        rows = connection.execute(
            sa.text(
                "SELECT tenant_id, id, body, created_at FROM sales WHERE (tenant_id, id) > (:tenant_id, :id) "
                "ORDER BY tenant_id, id LIMIT :batch"
            ),
            {"tenant_id": place[0], "id": place[1], "batch": _BATCH},
        ).all()
        if not rows:
            return
        connection.execute(
            sa.text(
                "UPDATE sales SET updated_at = CAST(:updated_at AS timestamptz), cashier = :cashier, "
                "payment_methods = string_to_array(:methods, chr(31)) WHERE tenant_id = :tenant_id AND id = :id"
            ),
            [_values(row) for row in rows],
        )
        place = (rows[-1].tenant_id, rows[-1].id)


def _values(row: sa.Row[tuple[object, ...]]) -> dict[str, object]:
    sale = Sale.FromString(row.body)
    changed_at = sale.update_time.ToJsonString() if sale.HasField("update_time") else row.created_at.isoformat()
    methods = _joined(tender.method for tender in sale.tenders)
    return {"tenant_id": row.tenant_id, "id": row.id, "updated_at": changed_at, "cashier": sale.cashier, "methods": methods}


def _joined(texts: Iterable[str]) -> str:
    return "\x1f".join(sorted({text for text in texts if text}))
