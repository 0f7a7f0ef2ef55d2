"""Signatures as the published vectors and the official library have them; keys and comparisons."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from kernel.signatures import fingerprint, is_key, matches, new_key, new_webhook_secret, sign_webhook

# Vectors published with the Standard Webhooks and Svix libraries.
VECTORS = [
    (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        b'{"email":"test@example.com","username":"test_user"}',
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
]


@pytest.mark.parametrize(("secret", "message_id", "timestamp", "body", "expected"), VECTORS)
def test_the_published_vectors_come_out(secret: str, message_id: str, timestamp: int, body: bytes, expected: str) -> None:
    assert sign_webhook(secret, message_id, timestamp, body) == expected
    assert sign_webhook(secret.removeprefix("whsec_"), message_id, timestamp, body) == expected


@given(st.text(min_size=1))
def test_the_official_library_signs_alike(text: str) -> None:
    secret, moment = new_webhook_secret(), datetime.now(UTC)
    theirs = Webhook(secret).sign("evt_1", moment, text)
    assert sign_webhook(secret, "evt_1", int(moment.timestamp()), text.encode()) == theirs


def test_secrets_have_32_random_bytes_in_the_standard_form() -> None:
    secrets = {new_webhook_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32


@pytest.mark.parametrize("secret", ["whsec_not base64!", "whsec_abc", "whsec_ä"])
def test_a_broken_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match=r"base64|ascii|ASCII"):
        sign_webhook(secret, "evt_1", 1, b"")


@pytest.mark.parametrize(
    ("given", "expected", "equal"),
    [
        ("a", "a", True),
        ("a", b"a", True),
        ("a", "b", False),
        ("a", "aa", False),
        ("", "", True),
        ("é", "é", True),
        ("é", b"e", False),
    ],
)
def test_secrets_of_any_kind_compare(given: str | bytes, expected: str | bytes, *, equal: bool) -> None:
    assert matches(given, expected) is equal


def test_keys_carry_their_checksum() -> None:
    key = new_key("gipos_test_")
    assert re.fullmatch(r"gipos_test_[0-9A-Za-z]{36}", key)
    assert is_key(key, "gipos_test_")
    assert not is_key(key, "gipos_live_")
    assert not is_key(key + "x", "gipos_test_")
    assert not is_key("gipos_test_" + "ä" * 36, "gipos_test_")
    assert fingerprint(key) != fingerprint(new_key("gipos_test_"))
    assert len(fingerprint(key)) == 32


@given(st.integers(min_value=11, max_value=46), st.sampled_from("0123456789abcXYZ"))
def test_one_wrong_character_in_a_key_shows(place: int, character: str) -> None:
    key = new_key("gipos_test_")
    wrong = key[:place] + character + key[place + 1 :]
    assert is_key(wrong, "gipos_test_") == (wrong == key)
