"""Checks a PIN against a hash in PHC format (scrypt or Argon2id). Pure; counts no attempts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

_SCRYPT = re.compile(r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_MOST_MEMORY = 256 * 1024 * 1024
"""Bytes: what a small tablet can spare for a moment. A hash that asks for more matches nothing."""
_ARGON2_MEMORY = re.compile(r"\$argon2id\$v=19\$m=([0-9]{1,9}),")


def matches(phc: str, pin: str) -> bool:
    """Whether this PIN was hashed to this text. A text that cannot be read matches nothing."""
    if phc.startswith("$argon2id$"):
        return _matches_argon2(phc, pin)
    found = _SCRYPT.fullmatch(phc)
    if found is None:
        return False
    cost, block, parallel = (int(part) for part in found.groups()[:3])
    needed = 128 * block * (2**cost + parallel + 2)
    if not cost or not block or not parallel or needed > _MOST_MEMORY:
        return False
    try:
        salt, wanted = (base64.b64decode(part + "=" * (-len(part) % 4)) for part in found.groups()[3:])
        made = hashlib.scrypt(
            pin.encode(), salt=salt, n=2**cost, r=block, p=parallel, dklen=len(wanted), maxmem=needed + 1024 * 1024
        )
    except (binascii.Error, ValueError, MemoryError):
        return False
    return len(wanted) >= 16 and hmac.compare_digest(made, wanted)


def _matches_argon2(phc: str, pin: str) -> bool:
    memory = _ARGON2_MEMORY.match(phc)
    if memory is None or int(memory[1]) * 1024 > _MOST_MEMORY:
        return False
    try:
        Argon2id.verify_phc_encoded(pin.encode(), phc)
    except (InvalidKey, UnsupportedAlgorithm, ValueError, MemoryError):
        return False
    return True
