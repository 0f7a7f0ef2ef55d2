"""Reads SQLite values as the types their STRICT columns promise."""

from __future__ import annotations


def whole(value: object) -> int:
    """An INTEGER column."""
    if not isinstance(value, int):
        raise TypeError(f"expected a whole number in the database, found {type(value).__name__}")
    return value


def text(value: object) -> str:
    """A TEXT column."""
    if not isinstance(value, str):
        raise TypeError(f"expected text in the database, found {type(value).__name__}")
    return value


def blob(value: object) -> bytes:
    """A BLOB column."""
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes in the database, found {type(value).__name__}")
    return value
