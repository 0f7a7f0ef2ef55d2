"""What a judge says: something that must not be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that must not be."""

    kind: str
    sentence: str
    evidence: str = ""
