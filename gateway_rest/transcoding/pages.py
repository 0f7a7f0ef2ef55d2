"""The address of the next page as a Link header (RFC 8288), so that a client can follow a listing without building addresses."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

_TOKEN = (b"page_token", b"pageToken")
# What may stand in an address between the angle brackets; the rest is encoded.
_SAFE = "/?:@!$&'()*+,;=-._~%[]"


@lru_cache(256)  # the same pages are read again and again, and quoting is slow
def following(raw_path: bytes, query: bytes, token: str) -> tuple[bytes, bytes]:
    """The header for the page behind `token`, every other parameter as it was."""
    kept = [part for part in query.split(b"&") if part and unquote_to_bytes(part.partition(b"=")[0]) not in _TOKEN]
    kept.append(b"page_token=" + quote(token, safe="").encode())
    address = quote(raw_path + b"?" + b"&".join(kept), safe=_SAFE)
    return b"link", f'<{address}>; rel="next"'.encode()
