"""What a till's daemon is told at its start: command line first, then GIPOS_EDGE_… variables. Nothing is read later."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:/\s]+):([0-9]{1,5})")


class SettingsInvalid(Exception):
    """A setting is missing or wrong; the message says which and what it should look like."""


@dataclass(frozen=True)
class Settings:
    """The daemon's settings."""

    cloud: str
    """host:port of the cloud's gRPC server."""
    token: str = field(repr=False)
    """The till's device token. A secret: never shown, never logged."""
    data: Path
    """The folder of this till's files."""
    port: int
    """Of the local API, on 127.0.0.1."""
    printer: str
    """For example tcp://127.0.0.1:9100; empty for a till without a printer."""
    paper: Literal[58, 80]
    """Width in millimetres."""


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Reads and checks the settings.

    Raises:
        SettingsInvalid: something is missing or wrong.
        SystemExit: help was asked for, or an option does not exist.
    """
    parser = argparse.ArgumentParser(prog="python -m edge", description="The daemon of one till.")
    parser.add_argument("--cloud", default=environment.get("GIPOS_EDGE_CLOUD", "127.0.0.1:8081"), help="host:port of the cloud")
    parser.add_argument("--token", help="device token; better given as GIPOS_EDGE_TOKEN, which process lists do not show")
    parser.add_argument("--data", default=environment.get("GIPOS_EDGE_DATA", "var/till"), help="folder of this till's files")
    parser.add_argument("--port", default=environment.get("GIPOS_EDGE_PORT", "8091"), help="port of the local API on 127.0.0.1")
    parser.add_argument("--printer", default=environment.get("GIPOS_EDGE_PRINTER", ""), help="for example tcp://127.0.0.1:9100")
    parser.add_argument("--paper", default=environment.get("GIPOS_EDGE_PAPER", "58"), help="width of the paper: 58 or 80 mm")
    given = parser.parse_args(arguments)
    token: str = given.token or environment.get("GIPOS_EDGE_TOKEN", "")
    if not token:
        raise SettingsInvalid("There is no device token. Set GIPOS_EDGE_TOKEN to the token the cloud gave for this till.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsInvalid("The device token has characters no token has. Copy it again, without spaces or line ends.")
    address = _ADDRESS.fullmatch(given.cloud)
    if address is None or not 0 < int(address[2]) < 65536:
        raise SettingsInvalid(f"--cloud {given.cloud!r} is not host:port, for example 127.0.0.1:8081.")
    if not given.port.isascii() or not given.port.isdigit() or not int(given.port) < 65536:
        raise SettingsInvalid(f"--port {given.port!r} is not a port number from 0 (any free one) to 65535.")
    if given.paper not in {"58", "80"}:
        raise SettingsInvalid(f"--paper {given.paper!r} must be 58 or 80 (millimetres).")
    if given.printer and not re.match("[a-z]+://.", given.printer):
        raise SettingsInvalid(f"--printer {given.printer!r} is not a printer's address, for example tcp://192.168.1.50:9100.")
    return Settings(
        cloud=given.cloud,
        token=token,
        data=Path(given.data),
        port=int(given.port),
        printer=given.printer,
        paper=80 if given.paper == "80" else 58,
    )
