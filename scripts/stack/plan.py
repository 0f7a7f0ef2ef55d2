"""The programs of the stack, as data: commands, settings, health and the order of stopping. Starts none of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from signal import SIGINT
from typing import Any, TypedDict

from cloud.platform.postgres import EmbeddedPostgres
from scripts.stack import health
from scripts.stack.arguments import HOST, Layout
from scripts.stack.programs import Program, last_words

# Stopped first to last: what sells, what answers, what remembers.
TILLS, GATEWAY, CLOUD, SANDBOXES, POSTGRES = range(5)


class Outlet(TypedDict):
    """A shop of the demo merchant."""

    id: str
    name: str


class Till(TypedDict):
    """A till of the demo merchant and the token of its device."""

    id: str
    outlet_id: str
    token: str
    number: int


class Demo(TypedDict):
    """What `python -m cloud demo` made, as it writes it to its state file."""

    tenant_id: str
    api_key: str
    outlets: list[Outlet]
    tills: list[Till]
    webhook_secret: str
    webhook_id: str


def read_demo(path: Path) -> Demo:
    """Reads the demo merchant's file. Raises OSError, ValueError or KeyError when it is not usable."""
    demo: Demo = json.loads(path.read_text("utf-8"))
    if not demo["api_key"] or not demo["webhook_secret"] or not all(till["token"] for till in demo["tills"]):
        raise ValueError("the file of the demo merchant is incomplete")
    return demo


def python(*arguments: str) -> tuple[str, ...]:
    """A command that runs a module of ours; -P keeps the current folder out of the module search."""
    return (sys.executable, "-P", "-m", *arguments)


class Plan:
    """All programs for one layout.

    Args:
        layout: Ports and folders.
        say: Receives one line when preparing the database changes something outside its folder.
        database_url: A PostgreSQL server of the user's own; None for the embedded one.
    """

    def __init__(self, layout: Layout, say: Callable[[str], None], database_url: str | None = None) -> None:
        self.layout = layout
        self._server = EmbeddedPostgres(layout.postgres, report=say)
        self.is_embedded = database_url is None
        self.database_url = database_url or self._server.url
        self.environment = {
            "GIPOS_DATABASE_URL": self.database_url,
            "GIPOS_DATA_DIR": str(layout.data),
            "GIPOS_WEBHOOK_PRIVATE_ADDRESSES": "1",  # the receiver listens on this machine
            "GIPOS_STACK": str(layout.data),  # how a later start or stop recognises what was left over
            "PYTHONUNBUFFERED": "1",
        }

    def prepare_postgres(self) -> None:
        """Makes the database on the first start. Blocks; raises DatabaseFailed."""
        self._server.prepare()

    def postgres(self) -> Program:
        """The embedded database, run in the foreground."""

        async def is_ready() -> bool:
            return self._server.is_ready()

        return self._program(
            "postgres",
            python("cloud.platform.postgres", str(self.layout.postgres)),
            is_ready,
            POSTGRES,
            stop_signal=SIGINT,  # to PostgreSQL: roll back what is in flight and stop now
            explain=self._server.explain,
        )

    def database_fault(self, output: str) -> str | None:
        """A sentence when what a program wrote shows that the embedded database's files are damaged."""
        return self._server.damage(output) if self.is_embedded else None

    def demo_command(self) -> tuple[str, ...]:
        """Makes the demo merchant; changes nothing that is already there."""
        return python("cloud", "demo", "--state", str(self.layout.demo), "--webhook-url", self.layout.receiver_url)

    def migrate_command(self) -> tuple[str, ...]:
        """Brings the database to this version's tables."""
        return python("cloud", "migrate")

    def services(self, demo: Demo) -> list[Program]:
        """Everything but the database and the tills."""
        serving = [self._cloud(), self._gateway()] if self.layout.apart else [self._host()]
        return [*serving, self._sandboxes(demo)]

    def tills(self, demo: Demo) -> list[Program]:
        """The tills, each of them paired before it starts."""
        return [self._till(till) for till in demo["tills"]]

    def enroll_command(self, till: Till, qr_text: str) -> tuple[str, ...]:
        """Makes a folder the tablet of a till. The code is on the command line: it is good once, and now."""
        return python("edge", "enroll", "--qr", qr_text, "--data", str(self.layout.till_folder(till["id"])))

    def is_paired(self, till: Till) -> bool:
        """Whether the till's folder knows who it is, and where the cloud of this layout is."""
        try:
            known = json.loads((self.layout.till_folder(till["id"]) / "identity.json").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return bool(known["enrol_address"] == self.layout.enrol_address and known["till_id"] == till["id"])

    def _host(self) -> Program:
        """Cloud and gateway in one process: what a request costs most, the way between them, is gone."""
        port = self.layout.port_base

        async def is_healthy() -> bool:
            return await health.is_serving(self.layout.grpc_address) and await health.answers(HOST, port, "/healthz")

        return self._program(
            "host",
            python("host", "--host", HOST, "--port", str(port), "--grpc-port", str(port + 1), *self._doors()),
            is_healthy,
            CLOUD,
            explain=lambda output: self.database_fault(output) or f"host cannot start: {last_words(output)}",
        )

    def _doors(self) -> tuple[str, ...]:
        return ("--link-port", str(self.layout.port_base + 3), "--enrol-port", str(self.layout.port_base + 4))

    def _cloud(self) -> Program:
        port = str(self.layout.port_base + 1)
        return self._program(
            "cloud",
            python("cloud", "serve", "--host", HOST, "--port", port, *self._doors()),
            partial(health.is_serving, self.layout.grpc_address),
            CLOUD,
            explain=lambda output: self.database_fault(output) or f"cloud cannot start: {last_words(output)}",
        )

    def _gateway(self) -> Program:
        port = self.layout.port_base
        return self._program(
            "gateway",
            python("gateway_rest", "--host", HOST, "--port", str(port), "--cloud", self.layout.grpc_address),
            partial(health.answers, HOST, port, "/healthz"),
            GATEWAY,
        )

    def cloud_address_of(self, till_number: int) -> str:  # noqa: ARG002 (for those who put something in between)
        """Where a till finds the cloud. Override it to send a till through a network of your own."""
        return self.layout.link_address

    def _till(self, till: Till) -> Program:
        number, port = till["number"], self.layout.till_port(till["number"])
        printer = f"tcp://{HOST}:{self.layout.printer_port(number)}"
        arguments = ["--cloud", self.cloud_address_of(number), "--data", str(self.layout.till_folder(till["id"]))]
        arguments += ["--port", str(port), "--printer", printer, "--paper", str(paper_width(number))]
        return self._program(
            f"till-{number}",
            python("edge", *arguments),
            partial(health.till_is_online, HOST, port),
            TILLS,
        )

    def _sandboxes(self, demo: Demo) -> Program:
        layout = self.layout
        arguments = ["--receiver-port", str(layout.port_base + 2), "--receiver-secret-file", str(layout.receiver_secrets)]
        arguments += ["--receiver-log", str(layout.receiver_log)]
        ports = [layout.port_base + 2]
        for till in demo["tills"]:
            number = till["number"]
            fields = (layout.printer_port(number), layout.control_port(number), paper_width(number))
            folder = layout.receipts_folder(till["id"])
            arguments += ["--printer", ":".join(map(str, fields)) + f":{folder}"]
            ports.append(layout.printer_port(number))

        async def are_open() -> bool:
            return all([await health.is_open(HOST, port) for port in ports])

        return self._program("sandboxes", python("sandboxes", "demo", *arguments), are_open, SANDBOXES)

    def _program(
        self,
        name: str,
        command: tuple[str, ...],
        is_healthy: Callable[[], Awaitable[bool]],
        stop_order: int,
        **more: Any,
    ) -> Program:
        log = self.layout.logs / f"{name}.log"
        return Program(name, command, log, is_healthy, stop_order, environment=self.environment, **more)


def paper_width(till_number: int) -> int:
    """Millimetres of the paper in a demo till's printer: the second till shows the wide receipt."""
    return 80 if till_number == 2 else 58


def own_database() -> str | None:
    """The PostgreSQL server the user names in the environment, if any."""
    return os.environ.get("GIPOS_DATABASE_URL") or None
