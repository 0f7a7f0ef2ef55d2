"""`python -m edge` runs the daemon of one till, `python -m edge enroll` makes this tablet one.

`python -m edge export` carries away what is not uploaded. Each does it, or says why not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import uvloop

from edge import daemon, enrolment, settings, words
from edge.identity import IdentityUnusable
from edge.storage import exports
from edge.storage.database import StorageUnusable
from edge.storage.folder import STORE_NAME


def main() -> int:
    """Reads the settings and does what was asked; the exit code."""
    arguments = sys.argv[1:]
    # What a till writes is its owner's: sales, keys, copies.
    os.umask(0o077)
    try:
        if arguments[:1] == ["enroll"]:
            return _enroll(settings.read_enrolling(arguments[1:], os.environ))
        if arguments[:1] == ["export"]:
            return _export(arguments[1:])
        given = settings.read(arguments, os.environ)
        daemon.configure_logging()
        uvloop.run(daemon.run(given))
    except settings.SettingsInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (
        daemon.CannotStart,
        StorageUnusable,
        IdentityUnusable,
        enrolment.PairingFailed,
    ) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{words.STOPPED}\n")
        return 130
    return 0


def _enroll(given: settings.Enrolling) -> int:
    if not given.again:
        enrolment.check_new(given.data)
    code = given.code or _asked("Kode pemasangan / Pairing code: ")
    made = asyncio.run(
        enrolment.enrol(given.data, given.cloud, code, software_version=daemon.VERSION, pin=given.authority, say=_say)
    )
    _say(words.PAIRED.format(till=made.till_name, outlet=made.outlet_name, tenant=made.tenant_name, data=given.data))
    return 0


def _asked(question: str) -> str:
    try:
        typed = input(question)
    except EOFError:
        raise settings.SettingsInvalid(words.NO_CODE) from None
    settings.check_code(typed)
    return typed


def _export(arguments: list[str]) -> int:
    """Writes what the cloud does not have yet into a file; a daemon may be running."""
    parser = argparse.ArgumentParser(
        prog="python -m edge export",
        description="Menyimpan penjualan yang belum terkirim ke berkas. / Writes what is not uploaded into a file.",
    )
    parser.add_argument("--data", default=os.environ.get("GIPOS_EDGE_DATA", "var/till"), help="folder of this till's files")
    parser.add_argument("--to", required=True, help="the file to write, one JSON object per line")
    parser.add_argument("--all", action="store_true", help="also what the cloud has acknowledged and the till still keeps")
    given = parser.parse_args(arguments)
    done = exports.write(Path(given.data) / STORE_NAME, Path(given.to), everything=given.all)
    _say(
        f"{done.operations} catatan ditulis ke {given.to}; {done.waiting} belum terkirim, {done.unreadable} tidak terbaca.\n"
        f"{done.operations} records written to {given.to}; {done.waiting} not uploaded, {done.unreadable} unreadable."
    )
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
