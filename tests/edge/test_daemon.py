from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge import daemon
from edge.storage import facts, outbox, products
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import Operation

Eventually = Callable[..., Awaitable[Any]]
COFFEE, TOAST = "8991002101418", "8998866200301"


class Till:
    """A real daemon process and a client of its local API."""

    def __init__(self, process: asyncio.subprocess.Process, http: aiohttp.ClientSession) -> None:
        self.process = process
        self.http = http

    async def call(self, method: str, path: str, body: object = None, *, status: int = 200, **headers: str) -> Any:
        async with self.http.request(method, path, json=body, headers=headers) as response:
            answer = await response.json(content_type=None)
            assert response.status == status, answer
            return answer

    async def sell(self, *barcodes: str, wait: int = 1, **headers: Any) -> Any:
        for barcode in barcodes:
            await self.call("POST", "/scan", {"barcode": barcode})
        return await self.call("POST", f"/checkout?wait={wait}", {"tenders": [{"method": "cash", "amount": 100_000}]}, **headers)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@pytest.fixture
def start_till(cloud: Any, tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def start_till(printer: Any = None, folder: str = "till") -> AsyncIterator[Till]:
        process = await spawn(
            ["--cloud", f"127.0.0.1:{cloud.port}", "--data", str(tmp_path / folder), "--port", "0"]
            + (["--printer", f"tcp://127.0.0.1:{printer.port}"] if printer else [])
        )
        assert process.stderr is not None
        port = 0
        while not port:
            line = await process.stderr.readline()
            assert line, "the daemon ended before it had started"
            port = json.loads(line).get("port", 0)
        drains = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession(base_url=f"http://127.0.0.1:{port}") as http:
            yield Till(process, http)
        if process.returncode is None:
            process.terminate()
        await process.wait()
        for reserve in tmp_path.glob("*/reserve.bin"):
            reserve.unlink()
        errors = await drains
        assert b"Traceback" not in errors, errors.decode()

    return start_till


async def spawn(arguments: list[str], **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "GIPOS_EDGE_TOKEN": "gipos_device_test", **environment},
    )


async def refused(arguments: list[str], code: int = 1, **environment: str) -> str:
    """What a daemon that does not start says: one line in each language, with an exit code (2 for what was asked wrongly)."""
    process = await spawn(arguments, **environment)
    assert process.stderr is not None
    errors = (await process.stderr.read()).decode()
    assert await process.wait() == code
    assert errors.count("\n") == 2, errors
    return errors


async def ready(till: Till, eventually: Eventually) -> None:
    async def check() -> bool:
        status = await till.call("GET", "/status")
        return bool(status["link"]["state"] == "online" and status["products_count"] == 2 and len(status["positions"]) == 2)

    await eventually(check)


async def uploaded(till: Till, eventually: Eventually) -> None:
    async def check() -> bool:
        return bool((await till.call("GET", "/status"))["link"]["waiting"] == 0)

    await eventually(check)


async def test_a_sale_is_scanned_paid_printed_and_uploaded(
    cloud: Any, printer: Any, start_till: Any, eventually: Eventually
) -> None:
    async with start_till(printer) as till:
        await ready(till, eventually)
        done = await till.sell(COFFEE, COFFEE, TOAST)
        assert done["sale"]["total"] == {"amount": 48_500, "currency": "IDR"}
        assert done["change"] == 51_500
        assert done["receipt"]["state"] == "printed"
        assert done["sale"]["number"].startswith("KMG-")
        assert done["sale"]["number"].endswith("-200001")
        (paper,) = printer.receipts
        assert paper.index(b"\x1bp") < paper.index(b"TOKO CONTOH"), "the drawer opens first"
        assert b"51.500" in paper
        await uploaded(till, eventually)
        assert cloud.sales[1].id == done["sale"]["id"]
        (listed,) = (await till.call("GET", "/sales"))["sales"]
        assert listed["upload"] == {"state": "uploaded", "op_seq": 1}
        assert listed["receipts"][0]["state"] == "printed"
        assert (await till.call("GET", "/cart"))["lines"] == []


async def test_shown_stock_drops_once_and_never_jumps(cloud: Any, start_till: Any, eventually: Eventually) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        cloud.acknowledges = False
        seen = {(await till.call("GET", "/stock/prd_1"))["on_hand"]}
        assert seen == {"10"}
        await till.sell(COFFEE)
        seen = set()

        async def counted_in() -> bool:
            stock = await till.call("GET", "/stock/prd_1")
            seen.add(stock["on_hand"])
            return bool(stock["pending"] == "0")

        await eventually(counted_in)
        assert seen == {"9"}


async def test_a_till_that_was_online_once_sells_without_a_network_and_after_a_restart(
    cloud: Any, printer: Any, start_till: Any, eventually: Eventually
) -> None:
    async with start_till(printer) as till:
        await ready(till, eventually)
    await cloud.stop()
    async with start_till(printer) as till:
        first = await till.sell(COFFEE)
        second = await till.sell(TOAST)
        assert [done["sale"]["number"][-6:] for done in (first, second)] == ["200001", "200002"]
        status = await till.call("GET", "/status")
        assert status["link"]["state"] in {"connecting", "offline"}
        assert status["link"]["waiting"] == 2
        assert (await till.call("GET", "/stock/prd_1"))["on_hand"] == "9"
        await cloud.start()
        await uploaded(till, eventually)
    assert [cloud.sales[number].number[-1] for number in (1, 2)] == ["1", "2"]


async def test_killed_between_commit_and_paper_the_sale_is_there_once_and_the_receipt_is_in_doubt(
    cloud: Any, printer: Any, start_till: Any, eventually: Eventually
) -> None:
    printer.stalls = True
    async with start_till(printer) as till:
        await ready(till, eventually)
        done = await till.sell(COFFEE, wait=0)
        await eventually(lambda: printer.receipts)
        await till.kill()
    printer.stalls = False
    async with start_till(printer) as till:
        await uploaded(till, eventually)
        (listed,) = (await till.call("GET", "/sales"))["sales"]
        assert listed["sale"]["id"] == done["sale"]["id"]
        (receipt,) = listed["receipts"]
        assert receipt["state"] == "unknown"
        assert len(printer.receipts) == 1, "what may have come out is not printed again by itself"
        status = await till.call("GET", "/status")
        assert [job["key"] for job in status["printer"]["unknown"]] == [receipt["key"]]
        resolved = await till.call("POST", f"/receipts/{receipt['key']}:resolve", {"printed": False})
        assert resolved["state"] == "failed"
        copy = await till.call("POST", f"/sales/{done['sale']['id']}:reprint")
        assert (copy["copy"], copy["state"]) == (2, "printed")
        assert b"SALINAN" in printer.receipts[-1]
        assert b"\x1bp" not in printer.receipts[-1], "a copy opens no drawer"
    assert list(cloud.sales) == [1]


async def test_killed_before_the_printer_could_be_reached_the_receipt_is_printed_once_afterwards(
    cloud: Any, printer: Any, start_till: Any, eventually: Eventually
) -> None:
    async with start_till(printer) as till:
        await ready(till, eventually)
        await printer.stop()
        done = await till.sell(COFFEE, wait=0)
        key = done["receipt"]["key"]

        async def blocked() -> bool:
            return bool((await till.call("GET", f"/receipts/{key}"))["state"] == "blocked")

        await eventually(blocked)
        await till.kill()
    await printer.start()
    async with start_till(printer) as till:

        async def printed() -> bool:
            return bool((await till.call("GET", f"/receipts/{key}"))["state"] == "printed")

        await eventually(printed)
        assert len(printer.receipts) == 1
        assert b"\x1bp" not in printer.receipts[0], "a drawer does not open by surprise"


async def test_killed_between_commit_and_acknowledgement_the_sale_is_sent_again_and_stored_once(
    cloud: Any, start_till: Any, eventually: Eventually
) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        cloud.acknowledges = False
        await till.sell(COFFEE)
        await eventually(lambda: cloud.received == [1])
        await till.kill()
    # The cloud comes back from a backup taken before the sale, so the till must still have it.
    cloud.watermark = 0
    cloud.sales.clear()
    cloud.acknowledges = True
    async with start_till() as till:
        await uploaded(till, eventually)
    assert cloud.received == [1, 1]
    assert list(cloud.sales) == [1]


async def test_killed_again_and_again_in_the_middle_of_selling_nothing_is_lost_or_doubled(
    cloud: Any, printer: Any, start_till: Any, eventually: Eventually
) -> None:
    answered: list[str] = []

    async def keep_selling(till: Till) -> None:
        while True:
            try:
                answered.append((await till.sell(COFFEE))["sale"]["id"])
            except aiohttp.ClientError:
                return

    for sales_before_the_kill in (1, 3, 6):
        async with start_till(printer) as till:
            await ready(till, eventually)
            enough = len(answered) + sales_before_the_kill
            selling = asyncio.create_task(keep_selling(till))
            await eventually(lambda enough=enough: len(answered) >= enough)
            await till.kill()
            await selling
    async with start_till(printer) as till:
        await uploaded(till, eventually)
        listed = [entry["sale"] for entry in (await till.call("GET", "/sales"))["sales"]][::-1]
        assert [sale["number"][-5:] for sale in listed] == [f"{number:05d}" for number in range(1, len(listed) + 1)]
        assert set(answered) <= {sale["id"] for sale in listed}
        assert [cloud.sales[number].id for number in sorted(cloud.sales)] == [sale["id"] for sale in listed]
        for paper in printer.receipts:
            assert any(sale["number"].encode() in paper for sale in listed), "paper without a sale"
        for sale in listed:
            assert sum(sale["number"].encode() in paper for paper in printer.receipts) <= 1
        # A till killed between a scan and its checkout keeps the cart, so a later sale may be of two.
        sold = sum(int(line["quantity"]) for sale in listed for line in sale["lines"])
        stock = await till.call("GET", "/stock/prd_1")
        assert stock["on_hand"] == str(10 - sold)


async def test_a_checkout_repeated_after_a_crash_returns_the_same_sale(
    cloud: Any, start_till: Any, eventually: Eventually
) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        first = await till.sell(COFFEE, **{"Idempotency-Key": "visit-1"})
        await till.kill()
    async with start_till() as till:
        again = await till.call(
            "POST", "/checkout", {"tenders": [{"method": "cash", "amount": 100_000}]}, **{"Idempotency-Key": "visit-1"}
        )
        assert again["sale"] == first["sale"]
        assert again["repeated"] is True
        assert len((await till.call("GET", "/sales"))["sales"]) == 1


async def test_the_offline_switch_survives_a_restart(cloud: Any, start_till: Any, eventually: Eventually) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        switched = await till.call("PUT", "/link", {"enabled": False})
        assert switched["state"] == "switched_off"
    async with start_till() as till:
        assert (await till.call("GET", "/link"))["state"] == "switched_off"
        await till.sell(COFFEE)
        assert (await till.call("GET", "/link"))["waiting"] == 1
        await till.call("PUT", "/link", {"enabled": True})
        await uploaded(till, eventually)


async def test_sigterm_ends_the_daemon_cleanly(start_till: Any, eventually: Eventually, tmp_path: Path) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        till.process.send_signal(signal.SIGTERM)
        assert await till.process.wait() == 0
    assert (tmp_path / "till" / "daemon.lock").read_bytes() == b""


async def test_a_second_daemon_on_the_same_folder_is_refused(cloud: Any, start_till: Any, tmp_path: Path) -> None:
    async with start_till() as till:
        errors = await refused(["--data", str(tmp_path / "till"), "--port", "0"])
    assert f"in use by another till daemon (process {till.process.pid})" in errors


async def test_a_taken_port_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        errors = await refused(["--data", str(tmp_path / "till"), "--port", str(port)])
    assert f"port {port}" in errors
    assert not (tmp_path / "till").exists(), "nothing is half-started"


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {"GIPOS_EDGE_TOKEN": ""}, "device token"),
        ([], {"GIPOS_EDGE_TOKEN": "two words"}, "characters no token has"),
        (["--cloud", "nowhere"], {}, "host:port"),
        (["--port", "70000"], {}, "port number"),
        (["--paper", "76"], {}, "58 or 80"),
        (["--printer", "usb"], {}, "printer's address"),
        (["--data", "/proc/till"], {}, "data folder"),
    ],
)
async def test_a_wrong_setting_is_one_clear_sentence(
    arguments: list[str], environment: dict[str, str], expected: str, tmp_path: Path
) -> None:
    code = 1 if expected == "data folder" else 2
    assert expected in await refused(["--data", str(tmp_path), "--port", "0", *arguments], code, **environment)


async def test_a_broken_store_is_kept_and_mended_and_people_are_told(
    cloud: Any, start_till: Any, eventually: Eventually, tmp_path: Path
) -> None:
    rubbish = b"this is not a database, but it is long enough to be read as one" * 100
    async with start_till() as till:
        await ready(till, eventually)
        cloud.last_sale_number = (await till.sell(COFFEE))["sale"]["number"]
        await uploaded(till, eventually)
        await till.kill()
    folder = tmp_path / "till"
    for name in ("store.db-wal", "store.db-shm"):
        (folder / name).unlink(missing_ok=True)
    (folder / "store.db").write_bytes(rubbish)
    async with start_till() as till:
        kinds = {warning["kind"] for warning in (await till.call("GET", "/status"))["warnings"]}
        assert "store_recovered" in kinds
        await ready(till, eventually)
        again = await till.sell(COFFEE)
        assert again["sale"]["number"] > cloud.last_sale_number
        await till.call("GET", f"/sales/{again['sale']['id']}")
    (aside,) = folder.glob("store.db.broken-*")
    assert aside.read_bytes() == rubbish


async def test_a_till_whose_identity_is_damaged_sells_and_says_why_nothing_is_sent(
    cloud: Any, start_till: Any, eventually: Eventually, tmp_path: Path
) -> None:
    async with start_till() as till:
        await ready(till, eventually)
    (tmp_path / "till" / "identity.json").write_text('{"till_id": ')
    hellos = len(cloud.hellos)
    async with start_till() as till:
        assert (await till.sell(COFFEE))["sale"]["number"].endswith("-200001")
        link = (await till.call("GET", "/status"))["link"]
        assert (link["state"], link["waiting"]) == ("offline", 1)
        assert "kode pemasangan" in link["message"]["id"]
        assert "pairing code" in link["message"]["en"]
        await till.call("PUT", "/link", {"enabled": False})
        assert (await till.call("PUT", "/link", {"enabled": True}))["message"] == link["message"]
    assert len(cloud.hellos) == hellos
    (tmp_path / "till" / "identity.json").unlink()
    async with start_till() as till:
        await uploaded(till, eventually)


async def test_a_file_that_breaks_while_the_till_runs_is_mended_and_the_till_goes_on(
    cloud: Any, start_till: Any, eventually: Eventually, tmp_path: Path
) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        await till.sell(COFFEE)
        await uploaded(till, eventually)
        replica = tmp_path / "till" / "replica.db"
        spoiled = replica.read_bytes()
        replica.write_bytes(spoiled[:100] + b"\xff" * (len(spoiled) - 100))
        (tmp_path / "till" / "replica.db-wal").write_bytes(b"")

        sold: list[Any] = []

        async def sells_again() -> bool:
            try:
                sold.append(await till.sell(TOAST))
            except (aiohttp.ClientError, AssertionError):
                return False  # it has just met the damage, or is starting anew: in both cases nothing is sold
            return True

        await eventually(sells_again)
        assert sold[0]["sale"]["number"].endswith("-200002")
    assert list((tmp_path / "till").glob("replica.db.broken-*"))


async def test_what_is_not_uploaded_can_be_exported_while_the_till_runs(
    cloud: Any, start_till: Any, eventually: Eventually, tmp_path: Path
) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        await cloud.stop()
        done = await till.sell(COFFEE)
        unsent = (await till.call("GET", "/status"))["unsent"]
        assert (unsent["sales"], unsent["amount"]) == (1, 18_000)
        process = await spawn(["export", "--data", str(tmp_path / "till"), "--to", str(tmp_path / "out.jsonl")])
        await process.communicate()
        assert process.returncode == 0
        assert (await refused(["export", "--data", str(tmp_path / "none"), "--to", str(tmp_path / "x")])).startswith(
            "Tidak ada kasir"
        )
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[1]["op_id"] == done["sale"]["id"]


async def test_a_broken_replica_is_put_aside_and_fetched_again(
    cloud: Any, start_till: Any, eventually: Eventually, tmp_path: Path
) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        await till.sell(COFFEE)
        await uploaded(till, eventually)
    replica = tmp_path / "till" / "replica.db"
    replica.write_bytes(b"\0" * 4096 + replica.read_bytes()[4096:])
    async with start_till() as till:
        await ready(till, eventually)
        assert (await till.call("GET", "/stock/prd_1"))["on_hand"] == "9"
    assert list(replica.parent.glob("replica.db.broken-*"))
    storage = Storage.open(replica.parent)
    assert await storage.replica.read(products.count) == 2
    storage.close()


async def test_a_receipt_without_its_replica_does_not_stop_the_start_and_is_printed_after_the_welcome(
    cloud: Any, printer: Any, start_till: Any, eventually: Eventually, tmp_path: Path
) -> None:
    async with start_till(printer) as till:
        await ready(till, eventually)
        done = await till.sell(COFFEE)
    # As if the power had gone between the commit of the sale and its receipt, and had taken the replica with it.
    storage = Storage.open(tmp_path / "till")
    await storage.store.write(lambda connection: connection.execute("UPDATE print_jobs SET state = 'queued', data = NULL"))
    storage.close()
    for file in (tmp_path / "till").glob("replica.db*"):
        file.unlink()
    await cloud.stop()
    async with start_till(printer) as till:
        receipt = f"/receipts/{done['receipt']['key']}"
        assert (await till.call("GET", receipt))["state"] == "queued"
        await cloud.start()

        async def printed() -> bool:
            return bool((await till.call("GET", receipt))["state"] == "printed")

        await eventually(printed)
    assert len(printer.receipts) == 2


async def test_a_till_whose_store_is_new_gives_no_receipt_number_twice(
    cloud: Any, start_till: Any, eventually: Eventually, tmp_path: Path
) -> None:
    async with start_till() as till:
        await ready(till, eventually)
        cloud.last_sale_number = (await till.sell(COFFEE))["sale"]["number"]
        await uploaded(till, eventually)
    for file in (tmp_path / "till").glob("store.db*"):
        file.unlink()
    await cloud.stop()
    cloud.watermark = 0
    async with start_till() as till:
        refusal = await till.call("POST", "/scan", {"barcode": COFFEE}, status=409)
        assert refusal["reason"] == "TILL_NOT_READY"
        await cloud.start()
        await ready(till, eventually)
        assert (await till.sell(COFFEE))["sale"]["number"].endswith("-200002")


async def test_a_full_disk_only_puts_housekeeping_off(
    storage: Storage, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(connection: Any) -> None:
        outbox.append(connection, Operation(op_id="sal_1"), {}, 0)
        outbox.acknowledge(connection, 1, 0)
        # What is pruned needs more room than there is.
        connection.execute(
            "CREATE TRIGGER hungry BEFORE DELETE ON operations BEGIN"
            " INSERT INTO facts (name, value) VALUES ('turns', hex(zeroblob(100000))); END"
        )
        connection.pragma("max_page_count", connection.pragma("page_count"))

    await storage.store.write(fill)
    turns = 0
    tidy = daemon._tidy

    async def count_turns(storage: Storage) -> None:
        nonlocal turns
        turns += 1
        await tidy(storage)

    monkeypatch.setattr(daemon, "_tidy", count_turns)
    monkeypatch.setattr(daemon, "HOUSEKEEPING_SECONDS", 0.01)
    housekeeping = asyncio.create_task(daemon._keep_house(storage))
    await eventually(lambda: turns >= 2 or housekeeping.done())
    assert not housekeeping.done()
    assert await storage.store.read(lambda connection: facts.text(connection, "turns")) == ""

    async def pruned() -> bool:
        return (await storage.store.read(outbox.standing)).first_op_seq == 2

    assert not await pruned()
    await storage.store.write(lambda connection: connection.execute("DROP TRIGGER hungry"))
    await eventually(pruned)
    housekeeping.cancel()
    await asyncio.gather(housekeeping, return_exceptions=True)
