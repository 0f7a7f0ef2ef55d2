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
    """
    ALTER TABLE operations ADD COLUMN kind TEXT NOT NULL DEFAULT 'sale_recorded';
    ALTER TABLE operations ADD COLUMN amount INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE unsent (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        operations INTEGER NOT NULL,
        sales INTEGER NOT NULL,
        amount INTEGER NOT NULL
    ) STRICT;
    INSERT INTO unsent SELECT 1, count(*), count(*), 0 FROM operations WHERE acknowledged_at IS NULL;
    CREATE TRIGGER unsent_more AFTER INSERT ON operations WHEN new.acknowledged_at IS NULL BEGIN
        UPDATE unsent SET operations = operations + 1, sales = sales + (new.kind = 'sale_recorded'), amount = amount + new.amount;
    END;
    CREATE TRIGGER unsent_less AFTER DELETE ON operations WHEN old.acknowledged_at IS NULL BEGIN
        UPDATE unsent SET operations = operations - 1, sales = sales - (old.kind = 'sale_recorded'), amount = amount - old.amount;
    END;
    CREATE TRIGGER unsent_other AFTER UPDATE OF acknowledged_at, kind, amount ON operations BEGIN
        UPDATE unsent SET
            operations = operations + (new.acknowledged_at IS NULL) - (old.acknowledged_at IS NULL),
            sales = sales + (new.acknowledged_at IS NULL AND new.kind = 'sale_recorded')
                - (old.acknowledged_at IS NULL AND old.kind = 'sale_recorded'),
            amount = amount + iif(new.acknowledged_at IS NULL, new.amount, 0) - iif(old.acknowledged_at IS NULL, old.amount, 0);
    END;

    CREATE TABLE past_operations (
        store_epoch INTEGER NOT NULL,
        op_seq INTEGER NOT NULL,
        op_id TEXT NOT NULL UNIQUE,
        body BLOB NOT NULL,
        kind TEXT NOT NULL,
        amount INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        acknowledged_at INTEGER NOT NULL,
        PRIMARY KEY (store_epoch, op_seq)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE pending_edits (
        op_seq INTEGER PRIMARY KEY REFERENCES operations (op_seq) ON DELETE CASCADE ON UPDATE CASCADE,
        product_id TEXT NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX pending_edits_by_product ON pending_edits (product_id, op_seq);

    CREATE TABLE papers (
        name TEXT PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE commands (
        command_id TEXT PRIMARY KEY,
        outcome INTEGER NOT NULL DEFAULT 0,
        message TEXT NOT NULL DEFAULT '',
        begun_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
)
"""The till's own file. Times are milliseconds since 1970 by the till's clock, quantities are thousandths, amounts rupiah.

`amount` of operations made before the second step is 0: no till was in a shop then. `unsent` sums up what waits, so that a
checkout does not count two hundred thousand rows to learn whether one more is allowed; triggers keep it, whoever writes.
"""

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
