"""What one caller may cost the gateway before anybody knows who it is: sizes, counts and times of what arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Everything beyond is answered with 408, 413, 414 or 431; the connection is closed where nobody knows what comes next."""

    target_bytes: int = 16 * 1024
    """Path and query together."""
    head_bytes: int = 64 * 1024
    """Request line and headers together; also of trailers, and of anything else between two pieces of a body."""
    head_fields: int = 100
    """Headers, and trailers, of one request."""
    idle_seconds: float = 60.0
    """How long a new connection may say nothing; balancers and browsers open some ahead."""
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_bytes: int = 4 * MEBIBYTE
    """A request body, after its content coding is taken off. A batch of 500 products with everything filled in is half of it."""
    body_bytes_of: Mapping[str, int] = field(default_factory=dict)
    """RPC (`gipos.v1.ProductService.ImportProducts`) to its own limit of bytes."""
    bodies_bytes: int = 64 * MEBIBYTE
    """All bodies together that are arriving or being worked on. Who comes on top is answered with 503."""
    body_seconds: float = 60.0
    """A whole body, however fast it comes."""
    body_grace_seconds: float = 5.0
    """How long a body may dawdle before its rate counts."""
    body_rate: int = 1024
    """Bytes per second a body must come with, on average."""
