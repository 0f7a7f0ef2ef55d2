"""The command line of `scripts/up` and where each program of the stack lives: ports and folders.

Standard library only: it is read before anything is installed.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parents[2]
DEFAULT_PORT: Final = 8080
HIGHEST_OFFSET: Final = 39
HOST: Final = "127.0.0.1"  # nothing of a demo shop is for the network

EPILOG: Final = """\
ports, counted from --port-base N (default 8080):
  N       REST gateway and documentation      N+11 ..  tills (local API)
  N+1     cloud (gRPC)                        N+21 ..  virtual printers
  N+2     webhook receiver                    N+31 ..  their controls
  N+3     cloud (link of the tills, mutual TLS)
  N+4     cloud (gRPC with TLS, pairing)

examples:
  scripts/up                                  start, show what happens, Ctrl-C stops everything
  scripts/up --detach && scripts/down         start in the background, stop
  scripts/up --catalog products.csv           start and import a catalogue
"""


@dataclass(frozen=True)
class Layout:
    """Where everything is: one base port, one folder."""

    data: Path
    port_base: int = DEFAULT_PORT
    apart: bool = False
    """Whether cloud and gateway are two programs, as on hosts of their own, instead of one."""

    @property
    def gateway_url(self) -> str:
        """Where REST is served."""
        return f"http://{HOST}:{self.port_base}"

    @property
    def grpc_address(self) -> str:
        """Where the cloud listens."""
        return f"{HOST}:{self.port_base + 1}"

    @property
    def link_address(self) -> str:
        """Where tills with a certificate find the cloud."""
        return f"{HOST}:{self.port_base + 3}"

    @property
    def enrol_address(self) -> str:
        """Where tablets become tills."""
        return f"{HOST}:{self.port_base + 4}"

    @property
    def receiver_url(self) -> str:
        """Where webhooks of the demo merchant are posted."""
        return f"http://{HOST}:{self.port_base + 2}/webhooks"

    def till_port(self, number: int) -> int:
        """The local API of the till, counted from 1."""
        return self.port_base + 10 + number

    def printer_port(self, number: int) -> int:
        """The virtual printer of the till, counted from 1."""
        return self.port_base + 20 + number

    def control_port(self, number: int) -> int:
        """The knobs of that printer (paper out and the like)."""
        return self.port_base + 30 + number

    def till_folder(self, till_id: str) -> Path:
        """The till's own databases."""
        return self.data / "tills" / till_id

    def receipts_folder(self, till_id: str) -> Path:
        """Where its printer leaves what it printed."""
        return self.data / "receipts" / till_id

    @property
    def logs(self) -> Path:
        """One file per program."""
        return self.data / "logs"

    @property
    def postgres(self) -> Path:
        """The database cluster."""
        return self.data / "postgres"

    @property
    def demo(self) -> Path:
        """What the demo merchant is (ids, keys), written when it was made."""
        return self.data / "demo.json"

    @property
    def receiver_secrets(self) -> Path:
        """What the receiver verifies signatures with, one secret per line."""
        return self.data / "receiver-secrets.txt"

    @property
    def receiver_log(self) -> Path:
        """One JSON line per received webhook."""
        return self.logs / "webhooks.jsonl"

    @property
    def up(self) -> Path:
        """For programs: what a person reads on screen. Exists while everything runs."""
        return self.data / "up.json"

    @property
    def progress(self) -> Path:
        """What first starts have completed, so that they are not done twice."""
        return self.data / "stack.json"

    @property
    def lock(self) -> Path:
        """Held while the supervisor lives; its text is the supervisor's process id and its base port."""
        return self.data / "up.lock"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence and ends with 1, as every other failure to start does."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{message[:1].upper()}{message[1:]}; {self.prog} --help says what is possible.\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the arguments of `scripts/up`; ends the program with a usage message when they are wrong."""
    parser = _Parser(
        prog="scripts/up",
        description="Starts the whole platform with a demo shop on this machine: database, cloud, REST gateway, three tills, "
        "their virtual printers and a webhook receiver.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --detach is taken out of the line for the process in the background
    )
    parser.add_argument("--detach", action="store_true", help="return when everything is healthy and leave it running")
    parser.add_argument("--catalog", type=_file, metavar="FILE.csv", help="import this product table once everything runs")
    parser.add_argument("--port-base", type=_port, default=DEFAULT_PORT, metavar="N", help="first port (default 8080)")
    parser.add_argument("--apart", action="store_true", help="run cloud and gateway as two programs, not as one")
    add_data(parser)
    # How `--detach` starts the process that stays: progress goes to this open file descriptor.
    parser.add_argument("--report-to", type=int, default=None, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def add_data(parser: argparse.ArgumentParser) -> None:
    """The option that `up` and `down` share."""
    parser.add_argument(
        "--data", type=_folder, default=ROOT / "var", metavar="DIR", help="where all state lives (default: var/ in the checkout)"
    )


def _folder(text: str) -> Path:
    return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 (resolve() would follow the caller's links)


def _file(text: str) -> Path:
    path = _folder(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read ({error.strerror})") from error
    return path


def _port(text: str) -> int:
    highest = 65_535 - HIGHEST_OFFSET
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"a number from 1 to {highest} is needed, because the ports above it are used, too")
    return int(text)
