"""`python -m sandboxes`: runs imitations of the outside world, one or all those of a demo shop, until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

HIGHEST_PORT: Final = 65_535


@dataclass(frozen=True)
class PrinterOptions:
    """Where a virtual printer listens and leaves its receipts; paper in millimetres."""

    port: int
    control_port: int | None
    paper_mm: int
    folder: Path


class Options(Protocol):
    """What the command line gives."""

    printer: list[PrinterOptions]
    receiver_port: int | None
    receiver_secret_file: Path | None
    receiver_log: Path | None


async def serve(options: Options) -> None:
    """Runs what was asked for until SIGTERM or SIGINT. Raises OSError when a port is taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as running:
        for printer in options.printer:
            from sandboxes.printer import VirtualPrinter

            printer.folder.mkdir(parents=True, exist_ok=True)
            await running.enter_async_context(
                VirtualPrinter(printer.port, printer.folder, control_port=printer.control_port, paper_mm=printer.paper_mm)
            )
        if options.receiver_port is not None:
            from sandboxes.webhook_receiver import WebhookReceiver, read_secrets

            if options.receiver_log is not None:
                options.receiver_log.parent.mkdir(parents=True, exist_ok=True)
            # Read afresh for each delivery: a new secret needs no restart.
            secrets = partial(read_secrets, options.receiver_secret_file) if options.receiver_secret_file else list[str]
            await running.enter_async_context(WebhookReceiver(options.receiver_port, secrets, options.receiver_log))
        await stop.wait()


def parse(arguments: list[str]) -> Options:
    """Reads the command line; ends the program with a usage message when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m sandboxes", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    printer = commands.add_parser("printer", help="one virtual receipt printer")
    _add_printer(printer, required=True)
    receiver = commands.add_parser("receiver", help="a webhook receiver that verifies signatures")
    _add_receiver(receiver, required=True)
    demo = commands.add_parser("demo", help="the printers and the receiver of a demo shop")
    _add_printer(demo, required=False)
    _add_receiver(demo, required=False)
    options: Options = parser.parse_args(
        arguments, argparse.Namespace(printer=[], receiver_port=None, receiver_secret_file=None, receiver_log=None)
    )
    return options


def _add_printer(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--printer",
        type=_printer,
        action="append",
        default=[],
        required=required,
        metavar="PORT:CONTROL:PAPER:DIR",
        help="TCP port, port of its controls (0 for none), paper width in mm (58 or 80), folder for receipts",
    )


def _add_receiver(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--receiver-port", type=_port, required=required, metavar="PORT")
    parser.add_argument("--receiver-secret-file", type=Path, metavar="FILE", help="signing secrets, one per line")
    parser.add_argument("--receiver-log", type=Path, metavar="FILE", help="one JSON line per delivery is appended here")


def _printer(text: str) -> PrinterOptions:
    fields = text.split(":", 3)
    if len(fields) != 4 or fields[2] not in {"58", "80"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not PORT:CONTROL:PAPER:DIR with a paper width of 58 or 80")
    control = None if fields[1] == "0" else _port(fields[1])
    return PrinterOptions(_port(fields[0]), control, int(fields[2]), Path(fields[3]))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def main(arguments: list[str]) -> int:
    """Runs until stopped; returns the exit code."""
    options = parse(arguments)
    try:
        asyncio.run(serve(options))
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error}; choose another port.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
