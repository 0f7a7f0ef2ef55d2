"""Receipt printers: what to print (pure) and how to print it exactly once."""
