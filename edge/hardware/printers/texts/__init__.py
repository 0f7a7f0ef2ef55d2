"""What printed paper says, by key, in the languages of the product. Adding a language is adding a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

import orjson

Locale = Literal["id", "en"]
LOCALES: tuple[Locale, ...] = ("id", "en")
"""The first is the default."""


@cache
def texts(locale: Locale) -> Mapping[str, str]:
    """All texts of a language. Placeholders are in braces."""
    read: dict[str, str] = orjson.loads(files(__name__).joinpath(f"{locale}.json").read_bytes())
    return read
