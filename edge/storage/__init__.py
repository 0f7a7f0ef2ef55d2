"""What a till remembers: store.db (its own sales, never lost) and replica.db (the cloud's data, can be fetched again)."""
