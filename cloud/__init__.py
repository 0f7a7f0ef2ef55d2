"""The cloud: gRPC services over PostgreSQL. `python -m cloud --help` says how to run it."""
