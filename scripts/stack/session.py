"""One life of the stack: from an empty folder or yesterday's data to healthy, and back to nothing running.

Writes the state file for programs (`up.json`) exactly while everything is up. Prints nothing; lines for people go to `say`.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cloud.platform.postgres import DatabaseFailed
from scripts.stack import ports
from scripts.stack.arguments import HOST, ROOT, Layout
from scripts.stack.plan import Demo, Plan, Till, own_database, python, read_demo
from scripts.stack.programs import last_words
from scripts.stack.supervisor import StartFailed, Supervisor

DEMO_CATALOG: Final = ROOT / "scripts" / "demo_catalog.csv"
DEMO_TILLS: Final = 3
STEP_SECONDS: Final = 120.0
SOME_ROWS_REFUSED: Final = 2  # the importer's exit code when it listed rows that could not go in


class Session:
    """Starts and stops the stack of one layout.

    Args:
        layout: Ports and folders.
        catalog: A product table to import, None for none.
        say: Receives one line for a person.
        plan_type: Makes the programs.
    """

    def __init__(self, layout: Layout, catalog: Path | None, say: Callable[[str], None], plan_type: type[Plan] = Plan) -> None:
        self.layout = layout
        self.demo: Demo | None = None
        self._catalog = catalog
        self._say = say
        self._plan = plan_type(layout, say, own_database())
        self._supervisor = Supervisor(say, self._processes_changed)
        self._is_up = False

    async def start(self) -> None:
        """Starts everything; when it returns, all of it is healthy and `up.json` is there.

        Raises:
            StartFailed: with one sentence. Call `stop` then, too.
        """
        complaint = ports.complaint(ports.needed(self.layout, DEMO_TILLS), self.layout.port_base)
        if complaint:
            raise StartFailed(complaint)
        done = self._completed()
        if self._plan.is_embedded:
            if not (self.layout.postgres / "PG_VERSION").exists():
                self._say("Making the database")
                done = {}  # whatever was completed was completed in a database that is gone
            try:
                await asyncio.to_thread(self._plan.prepare_postgres)
            except DatabaseFailed as error:
                raise StartFailed(str(error)) from None
            await self._supervisor.launch([self._plan.postgres()])
        self.demo = await self._made_demo(done)
        _write(self.layout.receiver_secrets, self.demo["webhook_secret"] + "\n")
        self._say("Starting cloud, gateway, tills and sandboxes")
        await self._supervisor.launch(self._plan.services(self.demo))
        await asyncio.gather(*(self._pair(till) for till in self.demo["tills"] if not self._plan.is_paired(till)))
        await self._supervisor.launch(self._plan.tills(self.demo))
        await self._import_catalog(done)
        self._is_up = True
        self._write_up()

    async def stop(self) -> None:
        """Stops everything and removes `up.json`. Can be called at any time."""
        self._is_up = False
        self.layout.up.unlink(missing_ok=True)
        await self._supervisor.stop()

    def state(self) -> dict[str, Any]:
        """What `up.json` holds."""
        assert self.demo is not None
        return {
            "gateway_url": self.layout.gateway_url,
            "grpc_address": self.layout.grpc_address,
            "link_address": self.layout.link_address,
            "enrol_address": self.layout.enrol_address,
            "api_key": self.demo["api_key"],
            "tenant_id": self.demo["tenant_id"],
            "outlets": [{"id": outlet["id"], "name": outlet["name"]} for outlet in self.demo["outlets"]],
            "tills": [
                {
                    "id": till["id"],
                    "outlet_id": till["outlet_id"],
                    "url": f"http://{HOST}:{self.layout.till_port(till['number'])}",
                    "receipts_dir": str(self.layout.receipts_folder(till["id"])),
                }
                for till in self.demo["tills"]
            ],
            "webhook_receiver_url": self.layout.receiver_url,
            "processes": [{"name": name, "pid": pid} for name, pid in self._supervisor.processes()],
        }

    async def _made_demo(self, done: dict[str, str]) -> Demo:
        """The demo merchant, made on the first start and when the database or the receiver's address is another one."""
        facts = {"database": self._plan.database_url, "receiver": self.layout.receiver_url}
        if all(done.get(name) == value for name, value in facts.items()):
            try:
                return read_demo(self.layout.demo)
            except (OSError, ValueError, KeyError):
                pass  # made again below
        self._say("Preparing the demo shop")
        await self._run_step("the database migration", *self._plan.migrate_command())
        await self._run_step("the demo shop", *self._plan.demo_command())
        try:
            demo = read_demo(self.layout.demo)
        except (OSError, ValueError, KeyError) as error:
            raise StartFailed(
                f"The demo shop's file {self.layout.demo} is not usable ({error}); remove it and start again."
            ) from None
        done.update(facts)
        self._complete(done)
        return demo

    async def _pair(self, till: Till) -> None:
        """Makes the folder of a till its tablet, as a shop does: a code from the owner, typed into the tablet."""
        assert self.demo is not None
        wanted = {"outlet_id": till["outlet_id"], "replaces": till["id"]}
        request = urllib.request.Request(  # noqa: S310 (our own gateway, by HTTP)
            f"{self.layout.gateway_url}/api/v1/pairing-codes",
            json.dumps(wanted).encode(),
            {"Authorization": f"Bearer {self.demo['api_key']}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine needs no proxy to reach itself

        def ask() -> str:
            with opener.open(request, timeout=STEP_SECONDS) as answer:
                return str(json.load(answer)["qr_text"])

        try:
            qr_text = await asyncio.to_thread(ask)
        except (OSError, ValueError, KeyError) as error:
            raise StartFailed(f"No pairing code for {till['id']} could be made ({error}); start again.") from None
        await self._run_step(f"the pairing of {till['id']}", *self._plan.enroll_command(till, qr_text))

    async def _import_catalog(self, done: dict[str, str]) -> None:
        assert self.demo is not None
        first = "catalog" not in done
        if self._catalog is None and not first:
            return
        path = self._catalog or DEMO_CATALOG
        options = ["--gateway", self.layout.gateway_url, "--outlet", self.demo["outlets"][0]["id"]]
        self._say(f"Importing {path.name}")
        forward = self._say if self._catalog else None  # our own small catalogue is nothing to read about
        await self._run_step(
            f"the import of {path}",
            *python("scripts.import_catalog", str(path), *options),
            forward=forward,
            environment={"GIPOS_API_KEY": self.demo["api_key"]},  # not on the command line, which everybody can read
            accepted=(0, SOME_ROWS_REFUSED),
        )
        if first:
            done["catalog"] = path.name
            self._complete(done)

    async def _run_step(
        self,
        what: str,
        *command: str,
        forward: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
        accepted: Sequence[int] = (0,),
    ) -> None:
        """Runs a program to its end; its output goes to its log and, if wanted, line by line to a person."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self._plan.environment, **(environment or {})},
            start_new_session=True,
        )
        assert process.stdout is not None
        lines: list[str] = []
        try:
            async with asyncio.timeout(STEP_SECONDS):
                async for raw in process.stdout:
                    lines.append(raw.decode("utf-8", "replace").rstrip())
                    if forward is not None:
                        forward(lines[-1])
                code = await process.wait()
        except TimeoutError:
            raise StartFailed(f"{what[0].upper()}{what[1:]} took more than {STEP_SECONDS:.0f} s; start again.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            with (self.layout.logs / "steps.log").open("a", encoding="utf-8") as log:
                log.writelines(f"{line}\n" for line in lines)
        if code not in accepted:
            output = "\n".join(lines)
            raise StartFailed(self._plan.database_fault(output) or f"{what[0].upper()}{what[1:]} failed: {last_words(output)}")

    def _processes_changed(self) -> None:
        if self._is_up:
            self._write_up()

    def _write_up(self) -> None:
        _write(self.layout.up, json.dumps(self.state(), indent=2) + "\n")

    def _completed(self) -> dict[str, str]:
        try:
            done = json.loads(self.layout.progress.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return done if isinstance(done, dict) else {}

    def _complete(self, done: dict[str, str]) -> None:
        _write(self.layout.progress, json.dumps(done) + "\n")


def _write(path: Path, text: str) -> None:
    """Replaces a file at once, readable by its owner only: readers see the old content or the new."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)
