"""The platform of a soak: PostgreSQL, cloud and four tablets of two outlets, each tablet in a network of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from scripts.soaking.journal import Journal
from scripts.soaking.namespaces import CLOUD, Cable, Namespace, mount_memory, unmount
from scripts.soaking.programs import NotReady, Program, python
from scripts.soaking.selling import QUIET

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("cloud", "edge", "gateway_rest", "host", "kernel", "protos")
REST_PORT, GRPC_PORT, TILL_PORT = 8080, 8081, 8091
DISK_MEGABYTES = 128
START_SECONDS = 90.0
POLL_SECONDS = 0.03


def copy_product(checkout: Path, to: Path) -> Path:
    """Copies the product's source, so that a soak is not disturbed by edits, and mutants disturb nobody."""
    for name in PRODUCT:
        # With what Python has compiled, where it has: times are kept, so that holds, and a mutant's files are compiled anew.
        shutil.copytree(checkout / name, to / name)
    return to


@dataclass
class Tablet:
    """One tablet."""

    name: str
    till_id: str
    outlet_id: str
    folder: Path
    program: Program
    namespace: Namespace
    cable: Cable
    http: aiohttp.ClientSession
    clock: Path
    spare: Cable | None = None
    """Leads to the other process of the cloud."""
    counts_until: float = 0.0
    """So long its cashier counts shelves every other time; of the monotonic clock."""
    counter: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by its cashier while something is done at it, and by who needs it quiet."""

    def switch(self) -> None:
        """Finds the other process of the cloud from now on; connections to the one before lead nowhere."""
        assert self.spare is not None
        self.cable, self.spare = self.spare, self.cable
        self.cable.use()

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and answer of its local API.

        Raises:
            aiohttp.ClientError, TimeoutError: it does not answer.
        """
        url = f"http://127.0.0.1:{TILL_PORT}{path}"
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    def shift_clock(self, seconds: float) -> None:
        """Puts its wall clock wrong by so much, at once; 0 puts it right."""
        with self.clock.open("r+b") as file:
            file.write(struct.pack("<q", int(seconds * 1_000_000_000)))

    async def ready(self) -> None:
        """Waits until its local API answers."""
        await _until(f"{self.name} answers", self.program, self._answers)

    async def _answers(self) -> bool:
        return (await self.call("GET", "/healthz"))[0] == 200


@dataclass
class Second:
    """Another process of the cloud on the same database, at the same address in another network. Started when it is needed."""

    program: Program
    place: Namespace
    http: aiohttp.ClientSession

    async def ready(self) -> None:
        """Waits until it answers."""
        await _until("the second cloud answers", self.program, self._answers)

    async def _answers(self) -> bool:
        async with self.http.get(f"http://{CLOUD}:{REST_PORT}/healthz") as answer:
            return answer.status == 200


@dataclass
class World:
    """Everything that runs."""

    folder: Path
    source: Path
    journal: Journal
    postgres: Program
    cloud: Program
    dsn: str
    place: Namespace
    http: aiohttp.ClientSession
    second: Second
    outside: Program
    """A client of the link that is none of ours."""
    tablets: list[Tablet] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    products: list[str] = field(default_factory=list)
    """Those that are there from the beginning."""
    extra: list[str] = field(default_factory=list)
    """Products that come and go."""
    thick: list[str] = field(default_factory=list)
    """Products with a lot of text."""
    flooding: list[str] = field(default_factory=list)
    """Products of which large amounts are received."""
    codes: dict[str, list[str]] = field(default_factory=dict)
    """Barcodes that tills have given to products."""
    copying: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the database's files are copied, in either direction."""
    copies: int = 0
    """How many second tablets there have been."""
    revoked: int = 0
    """How many tablets of others were locked out."""
    retired: list[Tablet] = field(default_factory=list)
    """Second tablets that have done their work: their files are still looked at."""

    @property
    def outside_folder(self) -> Path:
        """Where the outside client writes what it holds and what was broken."""
        return self.folder / "outside"

    def hush(self, *, quiet: bool) -> None:
        """The outside client sells nothing more, or goes on."""
        (self.outside_folder / QUIET).touch() if quiet else (self.outside_folder / QUIET).unlink(missing_ok=True)

    @property
    def database_folder(self) -> Path:
        """Where PostgreSQL keeps its files."""
        return self.folder / "postgres"

    @property
    def programs(self) -> list[Program]:
        """All of them."""
        return [self.postgres, self.cloud, self.second.program, self.outside, *(tablet.program for tablet in self.tablets)]

    async def rest(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and answer of the cloud's REST API.

        Raises:
            aiohttp.ClientError, TimeoutError: it does not answer.
        """
        url = f"http://{CLOUD}:{REST_PORT}{path}"
        authorized = {"Authorization": f"Bearer {self.facts['api_key']}", **headers} if self.facts else headers
        async with self.http.request(method, url, json=body, headers=authorized) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def must(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """A REST call that must succeed."""
        status, answer = await self.rest(method, path, body, **headers)
        if status >= 300:
            raise NotReady(f"{method} {path} answered {status}: {answer}")
        return answer

    async def start_postgres(self) -> None:
        """Starts PostgreSQL and waits until it takes connections. One that was killed leaves orphans, which must end first."""
        end = time.monotonic() + START_SECONDS
        while True:
            if not self.postgres.is_running:
                self.postgres.start()
            with suppress(OSError, asyncpg.PostgresError, TimeoutError):
                connection = await asyncpg.connect(self.dsn, timeout=5)
                await connection.close()
                return
            if time.monotonic() > end:
                raise NotReady(f"PostgreSQL does not start: {self.postgres.words()}")
            await asyncio.sleep(0.05)

    async def start_cloud(self) -> None:
        """Starts the cloud, unless something else has in the meantime, and waits until it answers."""
        if not self.cloud.is_running:
            self.cloud.start()
        await self.cloud_ready()

    async def cloud_ready(self) -> None:
        """Waits until the cloud answers."""
        await _until("the cloud answers", self.cloud, self._cloud_answers)

    async def _cloud_answers(self) -> bool:
        return (await self.rest("GET", "/healthz"))[0] == 200

    async def restart_clouds(self) -> None:
        """Kills and starts whatever of the cloud runs, so that nothing is known from memory."""
        running = [program for program in (self.cloud, self.second.program) if program.is_running]
        for program in running:
            await program.kill()
        for program in running:
            program.start()
        await self.cloud_ready()
        if self.second.program in running:
            await self.second.ready()

    async def backup(self) -> None:
        """Copies the database's files while it is stopped."""
        async with self.copying:
            await self.postgres.stop(signal.SIGINT)
            self.journal.backup_at = time.monotonic()
            await asyncio.to_thread(copy_folder, self.database_folder, self.folder / "backup")
            await self.start_postgres()

    async def restore(self) -> None:
        """Puts the last copy in the place of the database."""
        async with self.copying:
            await self.postgres.stop(signal.SIGINT)
            await asyncio.to_thread(copy_folder, self.folder / "backup", self.database_folder)
            self.journal.restored()
            await self.start_postgres()


def copy_folder(of: Path, to: Path) -> None:
    """Makes `to` a copy, with owners and rights: PostgreSQL insists on them."""
    shutil.rmtree(to, ignore_errors=True)
    subprocess.run(["cp", "-a", str(of), str(to)], check=True)


async def _until(what: str, program: Program, found: Any) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            if await found():
                return
        if not program.is_running:
            raise NotReady(f"{program.name} has ended while waiting until {what}: {program.words()}")
        await asyncio.sleep(POLL_SECONDS)
    raise NotReady(f"Waited in vain until {what}: {program.words()}")


def session(place: Namespace) -> aiohttp.ClientSession:
    """A client inside of a namespace."""
    connector = aiohttp.TCPConnector(socket_factory=place.socket, force_close=True, use_dns_cache=False)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=6))


@asynccontextmanager
async def built(folder: Path, source: Path) -> AsyncIterator[World]:
    """A running platform with products and stock; everything is ended afterwards.

    Raises:
        NotReady: something did not start.
    """
    from cloud.platform.postgres import EmbeddedPostgres  # only for the address of its socket
    from scripts.soaking import assortment  # which stands on this

    logs = folder / "logs"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(source), str(source / "protos")]),
        "PYTHONUNBUFFERED": "1",
        "GIPOS_DATABASE_URL": EmbeddedPostgres(folder / "postgres").url,
        "GIPOS_DATA_DIR": str(folder / "cloud"),
        "GIPOS_LOG_LEAST": "1",
    }
    dsn = environment["GIPOS_DATABASE_URL"]
    postgres = Program(
        "postgres", python("cloud.platform.postgres", str(folder / "postgres")), logs / "postgres.log", environment
    )
    place = Namespace("cloud")
    place.ip("addr", "add", f"{CLOUD}/32", "dev", "lo")
    serve = python("host", "--host", CLOUD, "--port", str(REST_PORT), "--grpc-port", str(GRPC_PORT))
    cloud = Program("cloud", serve, logs / "cloud.log", environment, place)
    journal = Journal(folder / "journal.jsonl")
    away = Namespace("cloud-2")
    away.ip("addr", "add", f"{CLOUD}/32", "dev", "lo")
    own = {**environment, "GIPOS_DATA_DIR": str(folder / "cloud-2")}
    second = Second(Program("second cloud", serve, logs / "cloud-2.log", own, away), away, session(away))
    apart = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    probe = python("scripts.soaking.probe", str(folder / "outside"))
    outside = Program("outside client", probe, logs / "outside.log", apart, place)
    world = World(folder, source, journal, postgres, cloud, dsn, place, session(place), second, outside)
    try:
        await world.start_postgres()
        await _step(world, python("cloud", "demo", "--state", str(folder / "demo.json")))
        world.facts = json.loads((folder / "demo.json").read_text())
        # One key for every process on one database.
        (folder / "cloud-2").mkdir(exist_ok=True)
        shutil.copy2(folder / "cloud" / "secret.key", folder / "cloud-2" / "secret.key")
        cloud.start()
        await world.cloud_ready()
        await _make_tablets(world, environment)
        await assortment.stocked(world)
        await assortment.arrived(world)
        await world.backup()
        yield world
    finally:
        for program in reversed(world.programs):
            await program.kill()
        for tablet in world.tablets:
            await tablet.http.close()
            tablet.namespace.close()
            unmount(tablet.folder.parent)
        await world.http.close()
        await second.http.close()
        place.close()
        away.close()


async def _step(world: World, command: tuple[str, ...]) -> None:
    """Runs a program in the cloud's place to its end."""
    log = world.folder / "logs" / "steps.log"
    step = Program(" ".join(command[3:5]), command, log, world.cloud.environment, world.place)
    step.start()
    if await step.finished():
        raise NotReady(f"{step.name} failed: {step.words()}")


async def _make_tablets(world: World, environment: dict[str, str]) -> None:
    """Two tablets in the first outlet by token, two in the second paired with a code and mTLS, as a shop does."""
    first, second = (outlet["id"] for outlet in world.facts["outlets"])
    tills = {till["outlet_id"]: till for till in world.facts["tills"]}
    plain = [till for till in world.facts["tills"] if till["outlet_id"] == first]
    pairings = []
    wanted: list[tuple[str, str, dict[str, str]]] = [(first, till["token"], {}) for till in plain]
    wanted += [(second, "", {"replaces": tills[second]["id"]}), (second, "", {"name": "Kasa 2"})]
    for number, (outlet_id, token, draft) in enumerate(wanted, start=1):
        name = f"tablet-{number}"
        folder = world.folder / name
        mount_memory(folder, DISK_MEGABYTES)
        space = Namespace(name)
        cable = Cable(world.place, space, number)
        clock = world.folder / f"{name}.clock"
        clock.write_bytes(bytes(8))
        seam = Path(__file__).with_name("seam")
        own = {
            **environment,
            "PYTHONPATH": os.pathsep.join([str(seam), environment["PYTHONPATH"]]),
            "GIPOS_SOAK_CLOCK": str(clock),
            "GIPOS_EDGE_TOKEN": token,
        }
        run = ["--data", str(folder / "till"), "--port", str(TILL_PORT)]
        run += ["--cloud", f"{CLOUD}:{GRPC_PORT}"] if token else []
        log = world.folder / "logs" / f"{name}.log"
        program = Program(name, python("edge", *run), log, own, space)
        tablet = Tablet(name, "", outlet_id, folder / "till", program, space, cable, session(space), clock)
        tablet.spare = Cable(world.second.place, space, number + 100, is_spare=True)
        cable.join(tablet.spare)
        world.tablets.append(tablet)
        if token:
            program.start()
        else:
            pairings.append(pair(world, {"outlet_id": outlet_id, **draft}, program, folder / "till"))
    pairings.append(pair(world, {"outlet_id": second, "name": "Luar"}, world.outside, world.outside_folder))
    await asyncio.gather(*pairings)
    for tablet in world.tablets:
        await tablet.ready()
        await _until(f"{tablet.name} is online", tablet.program, lambda tablet=tablet: _named(tablet))


async def pair(world: World, draft: dict[str, str], program: Program, folder: Path) -> str:
    """Makes a folder that of a till, as a shop does: with a code from the cloud, at the tablet. Then starts what works in it.

    Returns the till's id.

    Raises:
        NotReady: the code, or the pairing, was refused.
    """
    made = await world.must("POST", "/api/v1/pairing-codes", draft)
    command = python("edge", "enroll", "--qr", made["qr_text"], "--data", str(folder))
    paths = {"PYTHONPATH": world.cloud.environment["PYTHONPATH"]}
    enrol = Program(f"pairing of {program.name}", command, program.log, paths, program.namespace)
    enrol.start()
    if await enrol.finished():
        raise NotReady(f"The {enrol.name} failed: {enrol.words()}")
    program.start()
    return str(json.loads((folder / "identity.json").read_text())["till_id"])


async def _named(tablet: Tablet) -> bool:
    shown = (await tablet.call("GET", "/status"))[1]
    tablet.till_id = shown.get("till", {}).get("id", "")
    return bool(tablet.till_id)
