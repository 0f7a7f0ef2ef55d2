"""Signing and comparing. Everything that decides whether somebody is who they say compares in constant time, here."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import zlib

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LIVE_PREFIX = "gipos_live_"
TEST_PREFIX = "gipos_test_"
DEVICE_PREFIX = "gipos_device_"
TOKEN_PREFIX = "gipos_token_"  # noqa: S105 (this and the next five are public prefixes, no secrets)
REFRESH_PREFIX = "gipos_refresh_"
CODE_PREFIX = "gipos_code_"
TICKET_PREFIX = "gipos_ticket_"
PASS_PREFIX = "gipos_pass_"  # noqa: S105
CLIENT_SECRET_PREFIX = "gipos_secret_"  # noqa: S105
"""How every secret of ours begins, so that people and scanners see what they hold. All have the form that `new_key` makes."""

_SECRET_PREFIX = "whsec_"  # noqa: S105 (the public prefix, no secret)


def matches(given: str | bytes, expected: str | bytes) -> bool:
    """Whether two secrets are equal, in a time that tells nothing about where they differ."""
    left = given.encode() if isinstance(given, str) else given
    right = expected.encode() if isinstance(expected, str) else expected
    return hmac.compare_digest(left, right)


def new_webhook_secret() -> str:
    """A fresh signing secret in the text form of Standard Webhooks 1.0.0: `whsec_` and base64 of 32 bytes."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign_webhook(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` value of Standard Webhooks 1.0.0 for exactly these bytes.

    Raises:
        ValueError: the secret is not `whsec_` and base64.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("the secret is not base64") from error
    signature = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(signature).decode()


def _base62(number: int, length: int) -> str:
    characters = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        characters.append(_BASE62[rest])
    return "".join(reversed(characters))


def new_key(prefix: str) -> str:
    """A new key such as `gipos_test_…`: 30 random base62 characters, then 6 of CRC-32 so that typing errors show."""
    body = prefix + "".join(secrets.choice(_BASE62) for _ in range(30))
    return body + _base62(zlib.crc32(body.encode()), 6)


def is_key(text: str, prefix: str) -> bool:
    """Whether the text has the prefix, the length and the checksum of a key."""
    if not text.startswith(prefix) or len(text) != len(prefix) + 36 or not text.isascii():
        return False
    return matches(text[-6:], _base62(zlib.crc32(text[:-6].encode()), 6))


def fingerprint(key: str) -> bytes:
    """What is stored of a key. A plain hash is enough: keys have 178 random bits, so there is nothing to guess."""
    return hashlib.sha256(key.encode()).digest()
