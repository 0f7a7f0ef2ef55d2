"""REST in turn with what else one could run: Envoy's transcoder before our services, and FastAPI with an ORM on the same tables.

All contenders stand on one PostgreSQL, run all the time and are loaded one after the other, round by round (A B C D, A B C D, …),
by a generator in a process of its own. What counts are the ratios within a round; their median is reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from cloud.platform.postgres import EmbeddedPostgres
from scripts.benchmarks import load
from scripts.benchmarks.contenders import envoy, programs
from scripts.benchmarks.platform import ROOT, free_port_base

ROUNDS = 5
SECONDS = 1.5
CONNECTIONS = 32
PRODUCTS = 5_000
OUTPUT = ROOT / "var" / "bench"
OURS, OURS_GRPC, ENVOY, ORM = "gipos", "gipos over grpc.aio", "envoy to grpc.aio", "fastapi and orm"
WORKLOADS = {"get": 200, "list": 200, "create": 201, "sale": 201}
COMPARED = {
    "get_vs_envoy": ("get", OURS, ENVOY),
    "list_vs_envoy": ("list", OURS, ENVOY),
    "create_vs_fastapi": ("create", OURS, ORM),
    "sale_vs_fastapi": ("sale", OURS, ORM),
    "foreign_get_vs_envoy": ("get", OURS_GRPC, ENVOY),
    "foreign_list_vs_envoy": ("list", OURS_GRPC, ENVOY),
}
TARGETS = {
    "get_vs_envoy": 5.0,
    "list_vs_envoy": 5.0,
    "create_vs_fastapi": 6.0,
    "sale_vs_fastapi": 6.0,
    "foreign_get_vs_envoy": 0.45,
    "foreign_list_vs_envoy": 0.9,
}


@dataclass
class Contender:
    """A REST server under test."""

    name: str
    port: int
    pids: list[int]
    requests: dict[str, list[str]]
    """By workload."""


@dataclass
class Merchant:
    """Whose products are read and sold."""

    tenant_id: str
    key: str
    outlet_id: str


async def measure() -> dict[str, Any]:
    """Runs the benchmark. Raises RuntimeError when something does not start or answers wrongly."""
    return await asyncio.to_thread(_measure)


def _measure() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="gipos-bench-"))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    try:
        database = EmbeddedPostgres(folder / "postgres")
        url = database.start()
        try:
            return _on(url, folder)
        finally:
            database.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _on(url: str, folder: Path) -> dict[str, Any]:
    environment = {"GIPOS_DATABASE_URL": url, "GIPOS_DATA_DIR": str(folder / "data")}
    merchants = [_merchant(folder / f"merchant-{number}.json", environment) for number in range(10)]
    with _contenders(url, folder, environment) as contenders:
        _fill(contenders, merchants[0])
        figures = _rounds(contenders)
        ours = contenders[0]
        extra: dict[str, Any] = _alone(ours, merchants)
        extra["flood"] = _flood(ours, merchants[0], merchants[9], url)
        extra["flame_graphs"] = _flames(ours)
    ratios = {
        name: round(statistics.median(a / b for a, b in zip(figures[one][work], figures[other][work], strict=True)), 2)
        for name, (work, one, other) in COMPARED.items()
    }
    _table(figures, ratios)
    return {
        "benchmark": "api",
        "ratios": ratios,
        "targets": TARGETS,
        "requests_per_second": {
            name: {work: round(statistics.median(values)) for work, values in works.items()} for name, works in figures.items()
        },
        **extra,
        "rounds": ROUNDS,
        "connections": CONNECTIONS,
    }


def _merchant(state: Path, environment: dict[str, str]) -> Merchant:
    command = [sys.executable, "-P", "-m", "cloud", "demo", "--state", str(state), "--webhook-url", ""]
    made = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"The merchant cannot be made: {made.stderr[-500:]}")
    demo = json.loads(state.read_text())
    return Merchant(demo["tenant_id"], demo["api_key"], demo["outlets"][0]["id"])


@contextlib.contextmanager
def _contenders(url: str, folder: Path, environment: dict[str, str]) -> Iterator[list[Contender]]:
    base = free_port_base()
    python = [sys.executable, "-P", "-m"]
    foreign = programs.foreign_python()
    # A cloud takes the port behind its own as well, for tablets.
    rest, rest_grpc, cloud_grpc, envoy_port, orm_port = base, base + 1, base + 2, base + 5, base + 11
    host = [*python, "host", "--host", "127.0.0.1", "--port", str(rest), "--grpc-port", str(base + 12)]
    cloud = [*python, "cloud", "serve", "--host", "127.0.0.1", "--port", str(cloud_grpc)]
    gateway = [*python, "gateway_rest", "--host", "127.0.0.1", "--port", str(rest_grpc), "--cloud", f"127.0.0.1:{cloud_grpc}"]
    proxy = [str(Path(sys.executable).with_name("envoy")), "--config-yaml", envoy.configuration(envoy_port, cloud_grpc)]
    proxy += ["--log-level", "error", "--disable-hot-restart"]
    orm = [
        str(foreign),
        "-m",
        "uvicorn",
        "orm_api:app",
        "--app-dir",
        str(Path(programs.__file__).parent),
        "--port",
        str(orm_port),
    ]
    orm += ["--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
    with contextlib.ExitStack() as stack:

        def start(name: str, command: list[str], port: int, **more: str) -> int:
            return stack.enter_context(programs.running(name, command, port, folder, {**environment, **more}))

        host_pid = start("host", host, rest)
        cloud_pid = start("cloud", cloud, cloud_grpc)
        gateway_pid = start("gateway", gateway, rest_grpc)
        envoy_pid = start("envoy", proxy, envoy_port)
        orm_url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
        orm_pid = start("orm", orm, orm_port, BENCH_DATABASE_URL=orm_url)
        yield [
            Contender(OURS, rest, [host_pid], {}),
            Contender(OURS_GRPC, rest_grpc, [gateway_pid, cloud_pid], {}),
            Contender(ENVOY, envoy_port, [envoy_pid, cloud_pid], {}),
            Contender(ORM, orm_port, [orm_pid], {}),
        ]


def _import(port: int, key: str, count: int, numbers: random.Random) -> None:
    """So many products, the same each time."""
    first, second = (
        ("Kopi", "Teh", "Susu", "Roti", "Mi", "Sabun", "Beras", "Gula"),
        ("Kapal", "Melati", "Segar", "Manis", "Goreng"),
    )
    for start in range(0, count, 500):
        items = [
            {
                "product": {
                    "name": f"{numbers.choice(first)} {numbers.choice(second)} {number} gr",
                    "sku": f"BENCH-{number}",
                    "barcodes": [f"TOKO{number:08d}"],
                    "category": numbers.choice(first),
                    "price": {"amount": numbers.randrange(1_000, 90_000, 500)},
                    "cost": {"amount": 900},
                }
            }
            for number in range(start, min(start + 500, count))
        ]
        answer = _ask(port, key, "POST", "/api/v1/products:import", {"items": items})
        if answer["failed"]:
            raise RuntimeError(f"The products cannot be imported: {answer['results'][0]}")


def _fill(contenders: list[Contender], merchant: Merchant) -> None:
    """Imports the products and writes down what each contender is asked."""
    numbers = random.Random(20261123)  # noqa: S311 (the same catalogue every time)
    _import(contenders[0].port, merchant.key, PRODUCTS, numbers)
    for contender in contenders:
        tokens, ids = [""], []
        while len(tokens) <= 20:
            page = _ask(contender.port, merchant.key, "GET", f"/api/v1/products?page_size=50&page_token={tokens[-1]}")
            ids += [product["id"] for product in page["products"]]
            tokens.append(page["next_page_token"])
        numbers.shuffle(ids)
        product: dict[str, Any] = {
            "name": "Kopi Tubruk {{n}}",
            "sku": "BARU-{{n}}",
            "barcodes": ["B{{n}}"],
            "category": "Kopi",
            "unit": "pcs",
        }
        product |= {"price": {"amount": 15_500, "currency": "IDR"}, "cost": {"amount": 11_000, "currency": "IDR"}}
        contender.requests = {
            "get": [_request(merchant.key, "GET", f"/api/v1/products/{one}") for one in ids[:500]],
            "list": [_request(merchant.key, "GET", f"/api/v1/products?page_size=50&page_token={one}") for one in tokens[:20]],
            "create": [_request(merchant.key, "POST", "/api/v1/products", product)],
            "sale": [
                _request(merchant.key, "POST", "/api/v1/sales", _sale(merchant, ids[at : at + 3])) for at in range(0, 300, 3)
            ],
        }


def _sale(merchant: Merchant, products: list[str]) -> dict[str, Any]:
    lines = [{"product_id": one, "quantity": "1"} for one in products]
    return {"outlet_id": merchant.outlet_id, "lines": lines, "tenders": [{"method": "cash", "amount": {"amount": 500_000}}]}


def _request(key: str, method: str, target: str, body: dict[str, Any] | None = None) -> str:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {key}", "Accept: application/json"]
    text = ""
    if body is not None:
        text = json.dumps(body)
        # The counter is written with as many digits as it gets.
        length = len(text.replace("{{n}}", "0" * 12).encode())
        lines += ["Content-Type: application/json", f"Content-Length: {length}", "Idempotency-Key: bench-{{n}}"]
    return "\r\n".join([*lines, "", text])


def _ask(port: int, key: str, method: str, target: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{target}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (as above)
        return json.load(answer)


_sent = 0


def _load(
    contender: Contender, groups: list[list[str]], status: int, *, connections: int = CONNECTIONS, seconds: float = SECONDS
) -> dict[str, Any]:
    command = [sys.executable, "-I", str(Path(load.__file__))]
    plan = _plan(contender, groups, status, connections, seconds)
    done = subprocess.run(command, input=json.dumps(plan), check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{contender.name} answered wrongly: {done.stderr.strip()[-600:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@contextlib.contextmanager
def _loading(contender: Contender, groups: list[list[str]], *, connections: int, seconds: float) -> Iterator[None]:
    """Load beside the block. Refusals are part of it."""
    plan = _plan(contender, groups, 200, connections, seconds) | {"tolerate": True}
    command = [sys.executable, "-I", str(Path(load.__file__))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(plan))
        process.stdin.close()
        yield
        process.wait()


def _plan(contender: Contender, groups: list[list[str]], status: int, connections: int, seconds: float) -> dict[str, Any]:
    global _sent  # noqa: PLW0603 (every number is used once in a run, whoever is asked)
    _sent += 1
    return {
        "host": "127.0.0.1",
        "port": contender.port,
        "groups": groups,
        "connections": connections,
        "seconds": seconds,
        "status": status,
        "first_number": _sent * 1_000_000,
    }


def _rounds(contenders: list[Contender]) -> dict[str, dict[str, list[float]]]:
    figures: dict[str, dict[str, list[float]]] = {one.name: {} for one in contenders}
    for number in range(ROUNDS):
        print(f"  round {number + 1} of {ROUNDS}", flush=True)
        for work, status in WORKLOADS.items():
            for contender in contenders:
                if contender.name == ENVOY and work in {"create", "sale"}:
                    continue
                result = _load(contender, [contender.requests[work]], status)
                figures[contender.name].setdefault(work, []).append(result["per_second"])
    return figures


def _alone(ours: Contender, merchants: list[Merchant]) -> dict[str, Any]:
    """What only concerns us: the tail with 100 at once, ten merchants with 100 each (a page, nine products), memory."""
    tail = _load(ours, [ours.requests["get"]], 200, connections=100, seconds=4)
    mixed = [request for work in ("get", "get", "list", "get") for request in ours.requests[work][:20]]
    tail_mixed = _load(ours, [mixed], 200, connections=100, seconds=4)
    numbers = random.Random(10)  # noqa: S311 (as above)
    groups = []
    for one in merchants:
        if one is not merchants[0]:
            _import(ours.port, one.key, 100, numbers)
        listing = "/api/v1/products?page_size=50"
        ids = [product["id"] for product in _ask(ours.port, one.key, "GET", listing)["products"]]
        targets = [listing, *(f"/api/v1/products/{product_id}" for product_id in ids[:9])]
        groups.append([_request(one.key, "GET", target) for target in targets])
    ten = _load(ours, groups, 200, connections=1_000, seconds=6)
    return {
        "get_100_at_once": tail,
        "get_and_list_100_at_once": tail_mixed,
        "ten_merchants_100_at_once_each": ten,
        "memory_mb": sum(programs.resident_megabytes(pid) for pid in ours.pids),
    }


def _flood(ours: Contender, quiet: Merchant, noisy: Merchant, url: str) -> dict[str, Any]:
    """A merchant's tail alone, and while another asks for far more than its plan (Pro) allows. In turn, three times."""
    asyncio.run(_put_on_pro(url, noisy.tenant_id))
    mine = [_request(quiet.key, "GET", "/api/v1/products?page_size=50")]
    theirs = [_request(noisy.key, "GET", "/api/v1/products?page_size=50")]
    alone, flooded = [], []
    for _ in range(3):
        alone.append(_load(ours, [mine], 200, connections=4, seconds=3)["p99_ms"])
        with _loading(ours, [theirs], connections=64, seconds=5):
            time.sleep(1)  # until the flood stands
            flooded.append(_load(ours, [mine], 200, connections=4, seconds=3)["p99_ms"])
    ratios = [one / other for one, other in zip(flooded, alone, strict=True)]
    return {"p99_ms_alone": alone, "p99_ms_flooded": flooded, "ratio": round(statistics.median(ratios), 2)}


async def _put_on_pro(url: str, tenant_id: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("DELETE FROM plans WHERE tenant_id = $1", tenant_id)
        await connection.execute("UPDATE tenants SET plan = 'pro' WHERE tenant_id = $1", tenant_id)
    finally:
        await connection.close()


def _flames(ours: Contender) -> list[str]:
    """Where the time goes: an SVG per workload."""
    spy = programs.foreign_python().with_name("py-spy")
    written = []
    for work, status in WORKLOADS.items():
        target = OUTPUT / f"api-{work}.svg"
        command = [str(spy), "record", "--pid", str(ours.pids[0]), "--duration", "4", "--rate", "200", "--output", str(target)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as recording:
            _load(ours, [ours.requests[work]], status, seconds=4)
            _, complaint = recording.communicate(timeout=30)
        if recording.returncode:
            print(f"  no flame graph of {work}: {complaint.strip().splitlines()[-1:]}", flush=True)
        else:
            written.append(str(target.relative_to(ROOT)))
    return written


def _table(figures: dict[str, dict[str, list[float]]], ratios: dict[str, float]) -> None:
    print(f"  {'requests per second (median)':32}" + "".join(f"{work:>9}" for work in WORKLOADS))
    for name, works in figures.items():
        cells = "".join(f"{statistics.median(works[work]):9.0f}" if work in works else f"{'-':>9}" for work in WORKLOADS)
        print(f"  {name:32}{cells}")
    for name, ratio in ratios.items():
        print(f"  {name:32}{ratio:9.2f}   target {TARGETS[name]}")
