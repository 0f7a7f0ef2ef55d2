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
ENROL_PORT = 8083
"""Where clouds let tablets pair unless they were told otherwise."""
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:/\s\[\]]+):([0-9]{1,5})")
_CODE = re.compile(r"[0-9A-Za-z]{8}")
_SEPARATORS = re.compile(r"[\s\-_.]")
_HELP = """\
perintah lain / other commands:
  python -m edge enroll --help   pasang tablet ini sebagai kasir / make this tablet a till
  python -m edge export --help   simpan penjualan yang belum terkirim ke berkas / write what is not uploaded into a file

kode keluar / exit codes: 0 selesai / done, 1 tidak bisa, alasannya ditulis / not possible, the reason is said,
2 perintah salah / the command line is wrong
"""
_ENROLL_HELP = """\
contoh / example:
  python -m edge enroll --cloud pos.example.com --code K7QF-2MXD --data /var/lib/gipos

Kode dibuat pemilik, berlaku sepuluh menit, hanya untuk satu tablet. Kalau terputus di tengah jalan, ulangi perintah yang sama.
The owner makes the code; it is good for ten minutes and for one tablet. If something cuts it short, repeat the same command.

kode keluar / exit codes: 0 terpasang / paired, 1 tidak terpasang, alasannya ditulis / not paired, the reason is said,
2 perintah salah / the command line is wrong
"""


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
    again: bool = False
    """Whether a tablet that is a till already is meant to be paired once more."""


def read_enrolling(arguments: Sequence[str], environment: Mapping[str, str]) -> Enrolling:
    """Reads and checks the arguments of `enroll`.

    Raises:
        SettingsInvalid: something is missing or wrong.
        SystemExit: help was asked for, or an option does not exist.
    """
    parser = argparse.ArgumentParser(
        prog="python -m edge enroll",
        description="Memasang tablet ini sebagai kasir. / Makes this tablet a till.",
        epilog=_ENROLL_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cloud",
        default=environment.get("GIPOS_EDGE_CLOUD", ""),
        help=f"alamat cloud untuk memasang kasir / the cloud, where tablets pair: host or host:port, {ENROL_PORT} when left out",
    )
    parser.add_argument(
        "--code", default="", help="kode pemasangan; ditanyakan kalau kosong / pairing code; asked for when left out"
    )
    parser.add_argument(
        "--qr", default="", help="isi kode QR, pengganti --cloud dan --code / text of the QR code instead of these"
    )
    parser.add_argument(
        "--data",
        default=environment.get("GIPOS_EDGE_DATA", "var/till"),
        help="folder berkas kasir ini / folder of this till's files",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="pasangkan lagi tablet yang sudah menjadi kasir / pair a tablet that is a till already",
    )
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
    cloud = pairing_address(cloud)
    if code:
        check_code(code)
    return Enrolling(cloud=cloud, code=code, data=Path(given.data), authority=authority, again=given.again)


def pairing_address(typed: str) -> str:
    """host:port of what somebody typed as the address where tablets pair.

    Raises:
        SettingsInvalid: it is none.
    """
    scheme, found, rest = typed.strip().rpartition("://")
    if found and scheme.lower() == "http":
        raise SettingsInvalid(
            f"{typed} adalah alamat web tanpa pengaman. Tulis alamat pemasangan kasir tanpa http://, misalnya"
            f" pos.example.com:{ENROL_PORT}.\n{typed} is a web address without TLS. Give the address where tablets pair, without"
            f" http://, for example pos.example.com:{ENROL_PORT}."
        )
    address = rest.rstrip("/")
    if address and not _ADDRESS.fullmatch(address) and _ADDRESS.fullmatch(f"{address}:{ENROL_PORT}"):
        address = f"{address}:{443 if found else ENROL_PORT}"
    _check_address(address, typed)
    return address


def check_code(code: str) -> None:
    """Refuses what cannot be a pairing code, before anybody is asked.

    Raises:
        SettingsInvalid: it has not eight characters, or others than letters and digits.
    """
    if not _CODE.fullmatch(_SEPARATORS.sub("", code)):
        raise SettingsInvalid(
            "Kode pemasangan terdiri dari 8 huruf dan angka, misalnya K7QF-2MXD. Periksa ketikannya.\n"
            "A pairing code has 8 letters and digits, for example K7QF-2MXD. Check what was typed."
        )


def _check_address(cloud: str, typed: str = "") -> None:
    address = _ADDRESS.fullmatch(cloud)
    if address is None or not 0 < int(address[2]) < 65536:
        raise SettingsInvalid(
            f"--cloud {typed or cloud!r} bukan alamat host:port, misalnya 127.0.0.1:8081.\n"
            f"--cloud {typed or cloud!r} is not host:port, for example 127.0.0.1:8081."
        )


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Reads and checks the settings.

    Raises:
        SettingsInvalid: something is missing or wrong.
        SystemExit: help was asked for, or an option does not exist.
    """
    parser = argparse.ArgumentParser(
        prog="python -m edge",
        description="Menjalankan kasir. / Runs the daemon of one till.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cloud", default=environment.get("GIPOS_EDGE_CLOUD", ""), help="host:port of the cloud; a paired tablet knows it"
    )
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
        raise SettingsInvalid(
            f"Tablet ini belum dipasangkan. Jalankan: {ENROLL}\nThis tablet is not paired and has no device token. Run: {ENROLL}"
        )
    if token and (not token.isascii() or not token.isprintable() or " " in token):
        raise SettingsInvalid(
            "Token perangkat berisi karakter yang tidak mungkin. Salin lagi, tanpa spasi atau baris baru.\n"
            "The device token has characters no token has. Copy it again, without spaces or line ends."
        )
    cloud = given.cloud or ("" if is_paired else DEFAULT_CLOUD)
    if cloud:
        _check_address(cloud)
    if not given.port.isascii() or not given.port.isdigit() or not int(given.port) < 65536:
        raise SettingsInvalid(
            f"--port {given.port!r} bukan nomor port 0 (bebas) sampai 65535.\n"
            f"--port {given.port!r} is not a port number from 0 (any free one) to 65535."
        )
    if given.paper not in {"58", "80"}:
        raise SettingsInvalid(
            f"--paper {given.paper!r} harus 58 atau 80 (milimeter).\n--paper {given.paper!r} must be 58 or 80 (millimetres)."
        )
    if given.printer and not re.match("[a-z]+://.", given.printer):
        raise SettingsInvalid(
            f"--printer {given.printer!r} bukan alamat printer, misalnya tcp://192.168.1.50:9100.\n"
            f"--printer {given.printer!r} is not a printer's address, for example tcp://192.168.1.50:9100."
        )
    return Settings(
        cloud=cloud,
        token=token,
        data=Path(given.data),
        port=int(given.port),
        printer=given.printer,
        paper=80 if given.paper == "80" else 58,
    )
