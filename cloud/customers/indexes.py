"""Blind indexes of personal fields: what customers are found by although their names and numbers are sealed.

They allow equality only. What they give away to somebody who reads the table is written down in docs/decisions/0010.
"""

from __future__ import annotations

from cloud.customers import names
from cloud.platform.sealing import TenantKeys


def blind_index(keys: TenantKeys, kind: str, value: str) -> bytes:
    """16 bytes, equal for equal values of a kind: "phone" (E.164), "email", "name" (a beginning of a word), "sound"."""
    return keys.index(f"customers.{kind}", value)


def of_phone(keys: TenantKeys, phone: str) -> bytes | None:
    """What `phone_index` holds for a number in E.164; None for none."""
    return blind_index(keys, "phone", phone) if phone else None


def of_email(keys: TenantKeys, email: str) -> bytes | None:
    """What `email_index` holds for an address, whatever its case; None for none."""
    return blind_index(keys, "email", email.strip().casefold()) if email else None


def of_name(keys: TenantKeys, name: str) -> list[bytes]:
    """What `name_index` holds: every beginning of every word."""
    parts = dict.fromkeys(part for word in names.words(name) for part in names.beginnings(word))
    return [blind_index(keys, "name", part) for part in parts]


def of_sound(keys: TenantKeys, name: str) -> list[bytes]:
    """What `sound_index` holds: how each word reads."""
    return [blind_index(keys, "sound", part) for part in dict.fromkeys(names.sound(word) for word in names.words(name))]


def sought(keys: TenantKeys, query: str) -> list[bytes]:
    """What `name_index` must contain so that the name has a word for each of the query's beginnings.

    Words of more than 10 characters are found by their first 10.
    """
    return [blind_index(keys, "name", word[: names.LONGEST]) for word in names.words(query)]
