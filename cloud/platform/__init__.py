"""Machinery without business: database, outbound calls, logs. Knows no feature."""
