"""The link as people see it: four states and the last thing that went wrong. Nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge.words import Said


class LinkState(Enum):
    """What a cashier is told about the network."""

    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"
    SWITCHED_OFF = "switched_off"


@dataclass(frozen=True)
class LinkStatus:
    """The link as people see it."""

    state: LinkState
    since: str
    """RFC 3339, UTC."""
    message: Said
    """What is the matter; empty when all is well."""
