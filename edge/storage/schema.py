"""The tables of both files, as forward migrations. A released step is never edited; changes are appended as new steps."""

from __future__ import annotations

STORE = (
    """
    CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE cart_lines (
        product_id TEXT PRIMARY KEY,
        place INTEGER NOT NULL,
        quantity INTEGER NOT NULL CHECK (quantity > 0),
        product BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE operations (
        op_seq INTEGER PRIMARY KEY,
        op_id TEXT NOT NULL UNIQUE,
        body BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        acknowledged_at INTEGER,
        quarantine_reason TEXT,
        quarantine_message TEXT
    ) STRICT;
    CREATE INDEX operations_waiting ON operations (op_seq) WHERE acknowledged_at IS NULL;

    CREATE TABLE pending_deltas (
        op_seq INTEGER NOT NULL REFERENCES operations (op_seq) ON DELETE CASCADE ON UPDATE CASCADE,
        product_id TEXT NOT NULL,
        delta INTEGER NOT NULL,
        PRIMARY KEY (op_seq, product_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX pending_deltas_by_product ON pending_deltas (product_id, op_seq);

    CREATE TABLE sales (
        id TEXT PRIMARY KEY,
        number TEXT NOT NULL UNIQUE,
        op_id TEXT NOT NULL UNIQUE,
        body BLOB NOT NULL,
        sold_at INTEGER NOT NULL,
        request_key TEXT UNIQUE,
        request_hash BLOB
    ) STRICT;
    CREATE INDEX sales_by_time ON sales (sold_at DESC, id DESC);

    CREATE TABLE print_jobs (
        key TEXT PRIMARY KEY,
        sale_id TEXT NOT NULL,
        copy INTEGER NOT NULL,
        kind TEXT NOT NULL,
        data BLOB,
        state TEXT NOT NULL,
        problem TEXT NOT NULL DEFAULT '',
        attempt INTEGER NOT NULL DEFAULT 0,
        bytes_sent INTEGER NOT NULL DEFAULT 0,
        confirmed INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        UNIQUE (sale_id, copy)
    ) STRICT;
    CREATE INDEX print_jobs_unfinished ON print_jobs (created_at, key)
        WHERE state IN ('queued', 'blocked', 'sending', 'awaiting_confirm');
    CREATE INDEX print_jobs_unknown ON print_jobs (created_at, key) WHERE state = 'unknown';
    """,
)
"""The till's own file. Times are milliseconds since 1970 by the till's clock, quantities are thousandths."""

REPLICA = (
    """
    CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE lanes (
        lane TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        op_watermark INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE products (
        id TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        name TEXT NOT NULL,
        search TEXT NOT NULL,
        sellable INTEGER NOT NULL,
        archived INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX products_by_name ON products (name, id);

    CREATE TABLE barcodes (
        code TEXT NOT NULL,
        product_id TEXT NOT NULL REFERENCES products (id) ON DELETE CASCADE,
        PRIMARY KEY (code, product_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX barcodes_by_product ON barcodes (product_id);

    CREATE TABLE levels (
        outlet_id TEXT NOT NULL,
        product_id TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (outlet_id, product_id)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE staged (
        lane TEXT NOT NULL,
        place INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (lane, place)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""The copy of the cloud's data. The whole message is kept beside its columns, so that a newer program can read more from it."""
