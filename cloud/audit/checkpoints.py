"""Signed heads of the chains, in a file that is only ever appended to: the second place, which shows when the end was cut off.

Best kept on another volume than the database. A line that is not signed by one of our keys is never believed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloud.platform.keyring import Keyring, KeysUnusable, MasterKey

FILE = "checkpoints.ndjson"


@dataclass(frozen=True)
class Head:
    """Where a merchant's chain stood."""

    tenant_id: str
    seq: int
    hash: bytes


@dataclass
class Checkpoints:
    """What a file of checkpoints says."""

    by_tenant: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """Hash by position."""
    forged: list[int] = field(default_factory=list)
    """Numbers of lines that we did not sign."""
    torn: list[int] = field(default_factory=list)
    """Numbers of lines that are no checkpoint at all, for example cut off by a crash."""

    def of(self, tenant_id: str) -> dict[int, bytes]:
        """The checkpoints of one merchant."""
        return self.by_tenant.get(tenant_id, {})

    def last(self, tenant_id: str) -> int:
        """The newest position."""
        return max(self.of(tenant_id), default=0)


def append(folder: Path, key: MasterKey, heads: Sequence[Head], time: str) -> None:
    """Signs heads and appends them; returns when they are on the disk.

    Raises:
        OSError: the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    signer = _signer(key)
    public = signer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    lines = []
    for head in heads:
        facts = {"tenant_id": head.tenant_id, "sequence": head.seq, "hash": head.hash.hex(), "time": time}
        facts |= {"key_id": key.id.hex(), "public_key": public}
        lines.append(orjson.dumps(facts | {"signature": signer.sign(_signed(facts)).hex()}) + b"\n")
    # O_APPEND and one write, as a rule: several processes may share the file.
    descriptor = os.open(folder / FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        rest = _line_end(descriptor) + b"".join(lines)
        while rest:  # a disk that is nearly full takes a part first, and says so only when asked again
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line_end(descriptor: int) -> bytes:
    """What is missing of the last line: one that a crash or a full disk cut off must not spoil the next one."""
    size = os.fstat(descriptor).st_size
    return b"" if not size or os.pread(descriptor, 1, size - 1) == b"\n" else b"\n"


def read(folder: Path, keyring: Keyring) -> Checkpoints:
    """Everything the file says. A file that is not there says nothing.

    Raises:
        OSError: it cannot be read.
    """
    found = Checkpoints()
    path = folder / FILE
    if not path.exists():
        return found
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line:
            continue  # two processes have ended the same torn line
        try:
            facts = orjson.loads(line)
            signature = bytes.fromhex(facts.pop("signature"))
            head = Head(str(facts["tenant_id"]), int(facts["sequence"]), bytes.fromhex(facts["hash"]))
            key_id = bytes.fromhex(facts["key_id"])
        except (ValueError, KeyError, TypeError, AttributeError):
            found.torn.append(number)
            continue
        try:
            _signer(keyring.of(key_id)).public_key().verify(signature, _signed(facts))
        except (InvalidSignature, KeysUnusable):
            found.forged.append(number)
            continue
        found.by_tenant.setdefault(head.tenant_id, {})[head.seq] = head.hash
    return found


def _signer(key: MasterKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key.derived("audit checkpoints"))


def _signed(facts: dict[str, object]) -> bytes:
    return b"gipos audit checkpoint\n" + orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
