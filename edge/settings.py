"""What a till's daemon is told at its start: command line first, then GIPOS_EDGE_… variables. Nothing is read later."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

IDENTITY_NAME = "identity.json"
"""In the data folder of a tablet that was paired: it says who the till is and where the cloud is."""
DEFAULT_CLOUD = "127.0.0.1:8081"
ENROLL = "python -m edge enroll --cloud HOST:PORT --code XXXX-XXXX"
QR_SCHEME = "gipos-pair:"
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:/\s]+):([0-9]{1,5})")


class SettingsInvalid(Exception):
    """A setting is missing or wrong; the message says which and what it should look like."""


@dataclass(frozen=True)
class Settings:
    """The daemon's settings."""

    cloud: str
    """host:port of the cloud's gRPC server; empty for the one that the tablet was paired with."""
    token: str = field(repr=False)
    """The till's device token; empty for a tablet that was paired. A secret: never shown, never logged."""
    data: Path
    """The folder of this till's files."""
    port: int
    """Of the local API, on 127.0.0.1."""
    printer: str
    """For example tcp://127.0.0.1:9100; empty for a till without a printer."""
    paper: Literal[58, 80]
    """Width in millimetres."""


@dataclass(frozen=True)
class Enrolling:
    """What `python -m edge enroll` is told."""

    cloud: str
    """host:port of the cloud, where tablets pair."""
    code: str = field(repr=False)
    data: Path
    authority: str = ""
    """SHA-256 of the authority's certificate in hex, from a QR code."""


def read_enrolling(arguments: Sequence[str], environment: Mapping[str, str]) -> Enrolling:
    """Reads and checks the arguments of `enroll`.

    Raises:
        SettingsInvalid: something is missing or wrong.
        SystemExit: help was asked for, or an option does not exist.
    """
    parser = argparse.ArgumentParser(prog="python -m edge enroll", description="Makes this tablet a till.")
    parser.add_argument(
        "--cloud", default=environment.get("GIPOS_EDGE_CLOUD", ""), help="host:port of the cloud, where tablets pair"
    )
    parser.add_argument("--code", default="", help="pairing code, for example K7QF-2MXD; asked for when left out")
    parser.add_argument("--qr", default="", help="text of the QR code, instead of --cloud and --code")
    parser.add_argument("--data", default=environment.get("GIPOS_EDGE_DATA", "var/till"), help="folder of this till's files")
    given = parser.parse_args(arguments)
    cloud, code, authority = given.cloud, given.code, ""
    if given.qr:
        scheme, _, rest = given.qr.strip().partition("?")
        fields = dict(parse_qsl(rest))
        if scheme != QR_SCHEME or not all(fields.get(name) for name in ("cloud", "code", "ca")):
            raise SettingsInvalid(
                "Teks QR ini bukan kode pemasangan GiPos. Pindai lagi.\nThis QR text is no pairing code of GiPos. Scan it again."
            )
        cloud, code, authority = fields["cloud"], fields["code"], fields["ca"]
    if not cloud:
        raise SettingsInvalid(
            f"Alamat cloud belum ada. Contoh: {ENROLL}\nThe address of the cloud is missing. For example: {ENROLL}"
        )
    _check_address(cloud)
    return Enrolling(cloud=cloud, code=code, data=Path(given.data), authority=authority)


def _check_address(cloud: str) -> None:
    address = _ADDRESS.fullmatch(cloud)
    if address is None or not 0 < int(address[2]) < 65536:
        raise SettingsInvalid(f"--cloud {cloud!r} is not host:port, for example 127.0.0.1:8081.")


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Reads and checks the settings.

    Raises:
        SettingsInvalid: something is missing or wrong.
        SystemExit: help was asked for, or an option does not exist.
    """
    parser = argparse.ArgumentParser(prog="python -m edge", description="The daemon of one till.")
    parser.add_argument("--cloud", default=environment.get("GIPOS_EDGE_CLOUD", ""), help="host:port of the cloud")
    parser.add_argument("--token", help="device token; better given as GIPOS_EDGE_TOKEN, which process lists do not show")
    parser.add_argument("--data", default=environment.get("GIPOS_EDGE_DATA", "var/till"), help="folder of this till's files")
    parser.add_argument("--port", default=environment.get("GIPOS_EDGE_PORT", "8091"), help="port of the local API on 127.0.0.1")
    parser.add_argument("--printer", default=environment.get("GIPOS_EDGE_PRINTER", ""), help="for example tcp://127.0.0.1:9100")
    parser.add_argument("--paper", default=environment.get("GIPOS_EDGE_PAPER", "58"), help="width of the paper: 58 or 80 mm")
    given = parser.parse_args(arguments)
    is_paired = (Path(given.data) / IDENTITY_NAME).exists()
    # A tablet that was paired is who its certificate says; a token that is left over in its environment is of another time.
    token: str = "" if is_paired else given.token or environment.get("GIPOS_EDGE_TOKEN", "")
    if not token and not is_paired:
        raise SettingsInvalid(f"Tablet ini belum dipasangkan. / This tablet is not paired and has no device token. Run: {ENROLL}")
    if token and (not token.isascii() or not token.isprintable() or " " in token):
        raise SettingsInvalid("The device token has characters no token has. Copy it again, without spaces or line ends.")
    cloud = given.cloud or ("" if is_paired else DEFAULT_CLOUD)
    if cloud:
        _check_address(cloud)
    if not given.port.isascii() or not given.port.isdigit() or not int(given.port) < 65536:
        raise SettingsInvalid(f"--port {given.port!r} is not a port number from 0 (any free one) to 65535.")
    if given.paper not in {"58", "80"}:
        raise SettingsInvalid(f"--paper {given.paper!r} must be 58 or 80 (millimetres).")
    if given.printer and not re.match("[a-z]+://.", given.printer):
        raise SettingsInvalid(f"--printer {given.printer!r} is not a printer's address, for example tcp://192.168.1.50:9100.")
    return Settings(
        cloud=cloud,
        token=token,
        data=Path(given.data),
        port=int(given.port),
        printer=given.printer,
        paper=80 if given.paper == "80" else 58,
    )
