"""The keys that are not in the database: who has only a copy of the database can read no secret and forge no entry.

It never makes up a key for a database that already has one: what was sealed with another key could not be opened again.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloud.settings import Settings

KEY_FILE = "secret.key"
KEY_BYTES = 32
ID_BYTES = 4


class KeysUnusable(Exception):
    """The keys that were given cannot be used; the text says what to do."""


class MasterKey:
    """One key of 32 random bytes, and what follows from it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = hmac.digest(secret, b"gipos key id", "sha256")[:ID_BYTES]
        """Names the key without telling anything about it."""
        self.check = hmac.digest(secret, b"gipos key check", "sha256")
        """What the database remembers of the key."""
        self._wrapping = AESGCM(self.derived("wrapping"))

    def __repr__(self) -> str:
        return f"MasterKey({self.id.hex()})"

    def derived(self, purpose: str) -> bytes:
        """32 bytes for one purpose (HKDF, RFC 5869): knowing them tells nothing about the others."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"gipos {purpose}".encode()).derive(self._secret)

    def wrap(self, key: bytes, place: bytes) -> bytes:
        """A key for storage, bound to its place."""
        nonce = secrets.token_bytes(12)
        return self.id + nonce + self._wrapping.encrypt(nonce, key, place)

    def unwrap(self, wrapped: bytes, place: bytes) -> bytes:
        """The key again.

        Raises:
            cryptography.exceptions.InvalidTag: it was changed, or belongs to another place.
        """
        return self._wrapping.decrypt(wrapped[ID_BYTES : ID_BYTES + 12], wrapped[ID_BYTES + 12 :], place)


class Keyring:
    """The master keys, the current one first. The others open what was sealed before they were replaced."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = tuple(MasterKey(key) for key in keys)
        self.current = self.keys[0]

    @classmethod
    def random(cls) -> Keyring:
        """A ring that lives as long as this process."""
        return cls([secrets.token_bytes(KEY_BYTES)])

    def of(self, key_id: bytes) -> MasterKey:
        """The key with this id.

        Raises:
            KeysUnusable: it is not here.
        """
        for key in self.keys:
            if key.id == key_id:
                return key
        raise KeysUnusable(f"The key {key_id.hex()} is missing. Add it to GIPOS_SECRET_KEYS, after the current one.")


def find(settings: Settings) -> Keyring | None:
    """The ring that the settings give, or the file in data_dir; None when there is neither.

    Raises:
        KeysUnusable: a key is not base64 of 32 bytes, or a file cannot be read.
    """
    texts = [key for key in settings.secret_keys.split(",") if key.strip()]
    if settings.secret_key:
        texts.insert(0, settings.secret_key)
    if not texts:
        path = settings.secret_key_file or settings.data_dir / KEY_FILE
        try:
            texts = [line for line in path.read_text("ascii").splitlines() if line.strip()]
        except FileNotFoundError:
            if settings.secret_key_file:
                raise KeysUnusable(f"There is no file {path}, which GIPOS_SECRET_KEY_FILE names.") from None
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise KeysUnusable(f"The key file {path} cannot be read ({error}).") from error
        if not texts:
            raise KeysUnusable(f"The key file {path} is empty. Put it back from a copy.")
    return Keyring([_key(text.strip()) for text in texts])


def create(settings: Settings) -> Keyring:
    """A new key in data_dir, readable by its owner only; the one there when another process was quicker.

    Raises:
        KeysUnusable: the folder cannot be written.
    """
    path = settings.data_dir / KEY_FILE
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        _write_once(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n")
    except OSError as error:
        raise KeysUnusable(
            f"A secret key has to be made and {path} cannot be written ({error.strerror}). "
            "Set GIPOS_DATA_DIR to a folder that stays, or give a key with GIPOS_SECRET_KEY."
        ) from error
    found = find(settings)
    assert found is not None, "the file has just been linked"
    return found


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeysUnusable("A secret key must be base64 of 32 random bytes, for example of `openssl rand -base64 32`.")
    return key


def _write_once(path: Path, text: str) -> None:
    """Written whole beside its place and linked there: nobody ever reads half a key, and none is ever replaced."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
