"""Changes of the schema, one file each: expand first, contract in a later release."""
