"""The importer against a real HTTP server that keeps products as the contract says and fails when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kernel import barcodes
from scripts import catalog_upload, import_catalog
from scripts.catalog_report import Fate
from scripts.catalog_rows import ACCEPTABLE, Kind
from scripts.catalog_upload import Target
from scripts.import_catalog import ImportStopped

ROOT = Path(import_catalog.__file__).resolve().parent.parent
KEY = "gipos_test_key"
OUTLET = "out_1"
GTIN = "2000000000015"
OTHER = "2000000000022"
HEADER = "barcode,nama,harga_beli,harga_jual,stok\n"

Interference = Callable[[web.Request], Awaitable[web.Response | None]]


@dataclass
class Shop:
    """What the server keeps, and what it was asked."""

    products: dict[str, dict[str, Any]] = field(default_factory=dict)
    stock: dict[str, str] = field(default_factory=dict)
    outlets: dict[str, str] = field(default_factory=lambda: {OUTLET: "Kemang"})
    batches: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    interfere: Interference | None = None
    lose_replies: int = 0
    url: str = ""

    def target(self, outlet_id: str | None = OUTLET, **options: Any) -> Target:
        return Target(self.url, KEY, outlet_id, **{"first_delay": 0.001, **options})

    async def list_outlets(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return problem(401, "The API key is unknown.")
        return web.json_response({"outlets": [{"id": each, "name": name} for each, name in self.outlets.items()]})

    async def import_products(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.interfere is not None and (answer := await self.interfere(request)) is not None:
                return answer
            text = await request.read()
            items = json.loads(text)["items"]
            self.batches.append(len(items))
            self.bytes.append(len(text))
            results = [self.place(item) for item in items]
            if self.lose_replies:
                self.lose_replies -= 1
                assert request.transport is not None
                request.transport.close()
            return web.json_response({"results": results})
        finally:
            self.at_once -= 1

    def place(self, item: Mapping[str, Any]) -> dict[str, Any]:
        product = item["product"]
        if product["name"] == "Tolak":
            error = {"field": "product.category", "reason": "TOO_LONG", "message": "category is too long."}
            return {"status": "failed", "errors": [error]}
        # The fallback would be a mistake of the importer: a product nobody can know again.
        keys = product.get("barcodes") or [product.get("sku") or product["external_id"]]
        key = keys[0]
        before = self.products.get(key)
        self.products[key] = product
        if "opening_stock" in item:
            assert item.get("outlet_id") in self.outlets or len(self.outlets) == 1
            self.stock.setdefault(key, item["opening_stock"])
        status = "created" if before is None else "unchanged" if before == product else "updated"
        return {"status": status, "product_id": f"prd_{key}", "errors": []}


def problem(status: int, detail: str, **headers: str) -> web.Response:
    body = {"title": "x", "status": status, "detail": detail, "reason": "X", "request_id": "req_7", "errors": []}
    return web.json_response(body, status=status, content_type="application/problem+json", headers=headers)


def first(times: int, answer: Callable[[], web.Response]) -> Interference:
    left = times

    async def interfere(_: web.Request) -> web.Response | None:
        nonlocal left
        left -= 1
        return answer() if left >= 0 else None

    return interfere


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    app = web.Application(client_max_size=1 << 20)
    app.router.add_get("/api/v1/outlets", shop.list_outlets)
    app.router.add_post("/api/v1/products:import", shop.import_products)
    server = TestServer(app)
    await server.start_server()
    shop.url = str(server.make_url("")).rstrip("/")
    yield shop
    await server.close()


def file(folder: Path, text: str) -> Path:
    path = folder / "katalog.csv"
    path.write_text(text, encoding="utf-8")
    return path


def code(number: int) -> str:
    body = f"21{number:010d}"
    return f"{body}{barcodes.check_digit(body)}"


def many(count: int) -> str:
    lines = (f"{code(number)},Produk {number},{900 + number},{1000 + number},{number % 50}\n" for number in range(count))
    return HEADER + "".join(lines)


DIRT = (
    HEADER
    + f"{GTIN},Kopi,900,1000,3\n"  # 2
    + "2000000000016,Teh,900,1000,3\n"  # 3: check digit
    + f"{OTHER},Roti,1800,200,3\n"  # 4: under cost
    + "2000000000039,Susu,900,1000,-4\n"  # 5: negative stock
    + f"{GTIN},Kopi lagi,900,1000,3\n"  # 6: duplicate
    + "2000000000046,,900,1000,3\n"  # 7: no name
    + "2000000000053,Gula,900,mahal,3\n"  # 8: no number
)


async def test_good_rows_go_in_and_doubtful_ones_are_listed_and_held_back(shop: Shop, tmp_path: Path) -> None:
    summary = await import_catalog.run(file(tmp_path, DIRT), shop.target(), language="en")
    assert (summary.rows, summary.good, summary.doubtful, summary.rejected) == (7, 1, 4, 2)
    assert (summary.sent, summary.created, summary.exit_code) == (1, 1, 0)
    assert list(shop.products) == [GTIN]
    assert shop.stock == {GTIN: "3"}
    assert [(problem.line, problem.column, problem.value, problem.reason, problem.fate) for problem in summary.problems] == [
        (3, "barcode", "2000000000016", "no GTIN: the check digit 6 should be 5", Fate.HELD),
        (4, "harga_jual", "200", "price Rp200 is under cost Rp1.800", Fate.HELD),
        (5, "stok", "-4", "negative stock", Fate.HELD),
        (6, "barcode", GTIN, "duplicate: already in line 2", Fate.HELD),
        (7, "nama", "", "the name is empty", Fate.REJECTED),
        (8, "harga_jual", "mahal", 'not a number; write for example "18000"', Fate.REJECTED),
    ]


async def test_accepted_doubt_goes_in_with_its_safe_part(shop: Shop, tmp_path: Path) -> None:
    summary = await import_catalog.run(file(tmp_path, DIRT), shop.target(), accept=ACCEPTABLE)
    assert (summary.created, summary.doubtful) == (4, 4)
    assert shop.products[OTHER]["price"] == {"amount": 200}
    assert "2000000000039" not in shop.stock
    assert next(each for each in shop.products.values() if each["name"] == "Teh").get("barcodes") is None
    assert shop.products[GTIN]["name"] == "Kopi"


async def test_importing_again_changes_nothing_and_leaves_stock_alone(shop: Shop, tmp_path: Path) -> None:
    path = file(tmp_path, DIRT + ",Es teh,500,2000,9\n")
    for accept in (frozenset[Kind](), ACCEPTABLE):
        await import_catalog.run(path, shop.target(), accept=accept)
        shop.stock[GTIN] = "1"
        products = json.dumps(shop.products)
        again = await import_catalog.run(path, shop.target(), accept=accept)
        assert (again.created, again.updated, again.failed, again.unchanged) == (0, 0, 0, again.sent)
        assert json.dumps(shop.products) == products
        assert shop.stock[GTIN] == "1"


async def test_five_thousand_rows_travel_in_full_batches_two_at_a_time(shop: Shop, tmp_path: Path) -> None:
    both = asyncio.Barrier(2)

    async def together(_: web.Request) -> None:
        # Passes only in pairs: without two in flight the test would hang here and not end well.
        await both.wait()

    shop.interfere = together
    seen: list[tuple[int, int]] = []
    summary = await import_catalog.run(
        file(tmp_path, many(5000)), shop.target(), progress=lambda done, total: seen.append((done, total))
    )
    assert (summary.created, len(shop.products), summary.problems) == (5000, 5000, ())
    assert shop.batches == [500] * 10
    assert shop.most_at_once == catalog_upload.IN_FLIGHT
    assert seen == [(500 * number, 5000) for number in range(1, 11)]


async def test_batches_stay_below_the_size_proxies_let_through(shop: Shop, tmp_path: Path) -> None:
    # The longest texts the cloud takes, four bytes a letter, and twenty codes: 500 of these items are more than BATCH_BYTES.
    texts = [letter * length for letter, length in (("\U0001f35c", 200), ("\U0001f963", 100), ("\U0001f372", 20))]
    bowl = "\U0001f35a"
    lines = [
        f"{'|'.join(code(20 * n + each) for each in range(20))};{n:04}{bowl * 60};{';'.join(texts)};1000\n" for n in range(1000)
    ]
    path = file(tmp_path, "barcode;sku;nama;kategori;satuan;harga\n" + "".join(lines))
    assert path.stat().st_size > 1 << 20
    summary = await import_catalog.run(path, shop.target())
    assert (summary.created, sum(shop.batches)) == (1000, 1000)
    assert max(shop.batches) < catalog_upload.BATCH_ITEMS
    assert max(shop.bytes) < 1 << 20


def test_a_batch_ends_before_it_is_too_large() -> None:
    items = [{"product": {"name": "x" * 200_000}} for _ in range(10)]
    cut = list(catalog_upload.batches(items))
    assert [(begin, end) for begin, end, _ in cut] == [(0, 4), (4, 8), (8, 10)]
    assert [item for _, _, body in cut for item in json.loads(body)["items"]] == items


@pytest.mark.parametrize("status", [409, 429, 502, 503, 504])
async def test_a_gateway_that_is_briefly_away_is_asked_again(shop: Shop, tmp_path: Path, status: int) -> None:
    shop.interfere = first(3, lambda: problem(status, "later", **{"Retry-After": "0"}))
    summary = await import_catalog.run(file(tmp_path, many(1200)), shop.target())
    assert (summary.created, summary.failed) == (1200, 0)


async def test_a_lost_reply_doubles_nothing(shop: Shop, tmp_path: Path) -> None:
    shop.lose_replies = 2
    summary = await import_catalog.run(file(tmp_path, many(600)), shop.target())
    assert len(shop.products) == 600
    assert (summary.created + summary.unchanged, summary.failed) == (600, 0)


async def test_a_gateway_that_stays_away_ends_the_import_with_how_far_it_came(shop: Shop, tmp_path: Path) -> None:
    async def after_two(_: web.Request) -> web.Response | None:
        return problem(503, "The cloud is not reachable.") if len(shop.batches) >= 2 else None

    shop.interfere = after_two
    with pytest.raises(ImportStopped) as caught:
        await import_catalog.run(file(tmp_path, many(5000)), shop.target(retries=2), language="en")
    assert "503: The cloud is not reachable. [req_7]" in str(caught.value)
    assert f"{sum(shop.batches)} of 5000 products are in" in str(caught.value)


async def test_a_long_wait_is_told_and_not_waited_out(shop: Shop, tmp_path: Path) -> None:
    shop.interfere = first(9, lambda: problem(429, "Daily quota used up.", **{"Retry-After": "7200"}))
    with pytest.raises(ImportStopped, match=r"wait 7200 seconds \(Daily quota used up"):
        await import_catalog.run(file(tmp_path, many(3)), shop.target(), language="en")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: problem(400, "items is wrong"), "answered 400: items is wrong"),
        (lambda: problem(401, "Unknown key"), "API key is not accepted"),
        (lambda: problem(403, "Needs products:write"), "may not import products .Needs products:write"),
        (lambda: web.Response(text="<html>", content_type="text/html"), "not that of a GiPos gateway"),
        (lambda: web.json_response({"results": []}), "not that of a GiPos gateway"),
        (lambda: web.json_response([1]), "not that of a GiPos gateway"),
        (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "answered 302"),
        (lambda: web.Response(status=500, text="Traceback"), "answered 500: Internal Server Error"),
    ],
)
async def test_an_answer_that_ends_the_import_is_told_in_a_sentence(
    shop: Shop, tmp_path: Path, answer: Callable[[], web.Response], words: str
) -> None:
    shop.interfere = first(99, answer)
    with pytest.raises(ImportStopped, match=words):
        await import_catalog.run(file(tmp_path, many(3)), shop.target(), language="en")


async def test_what_the_server_refuses_is_listed_with_its_line(shop: Shop, tmp_path: Path) -> None:
    path = file(tmp_path, f"{HEADER}{GTIN},Kopi,900,1000,3\n\n{OTHER},Tolak,900,1000,3\n")
    report = tmp_path / "sisa.csv"
    summary = await import_catalog.run(path, shop.target(), report=report)
    assert (summary.created, summary.failed, summary.exit_code) == (1, 1, 2)
    (told,) = summary.problems
    assert (told.line, told.column, told.kind, told.fate) == (4, "product.category", "TOO_LONG", Fate.FAILED)
    assert told.reason == "ditolak server: category is too long."
    assert f"{OTHER},Tolak,900,1000,3,4," in report.read_text("utf-8-sig")


async def test_the_report_can_be_corrected_and_imported(shop: Shop, tmp_path: Path) -> None:
    report = tmp_path / "sisa.csv"
    source = file(tmp_path, DIRT.replace(",", ";") + "2000000000060;Air;putih;500;600;4\n")
    await import_catalog.run(source, shop.target(), report=report)
    written = report.read_text("utf-8-sig")
    # Line 2 is in; it stands there because line 6 has the same code.
    assert [line.split(";")[5] for line in written.splitlines()] == ["baris", "2", "3", "4", "5", "6", "7", "8", "9"]
    assert written.splitlines()[-1].endswith(";4")  # what stood beyond the header is still there
    assert report.read_bytes().startswith(b"\xef\xbb\xbf")
    # A report of the report has the same columns, not twice as many.
    second = tmp_path / "sisa2.csv"
    again = await import_catalog.run(report, shop.target(), report=second)
    assert (again.sent, again.unchanged) == (1, 1)  # uncorrected, it changes nothing: the second Kopi does not replace the first
    assert second.read_text("utf-8-sig").splitlines()[0] == written.splitlines()[0]
    corrected = written.replace("2000000000016", "").replace(";200;", ";2000;").replace(";-4;", ";4;").replace("mahal", "1000")
    report.write_text(corrected, encoding="utf-8-sig")
    summary = await import_catalog.run(report, shop.target(), report=second)
    assert (summary.created, summary.rejected) == (4, 2)
    assert {each["name"] for each in shop.products.values()} >= {"Kopi", "Teh", "Roti", "Susu", "Gula"}


async def test_the_file_itself_is_never_overwritten_by_its_report(shop: Shop, tmp_path: Path) -> None:
    path = file(tmp_path, DIRT)
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    for report in (path, link):
        with pytest.raises(ImportStopped, match="--report"):
            await import_catalog.run(path, shop.target(), report=report)
    assert path.read_text() == DIRT
    assert shop.batches == []


async def test_an_outlet_that_is_not_the_merchants_is_told_with_the_choice(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(ImportStopped, match=r"no outlet out_9\. Outlets: out_1 \(Kemang\)"):
        await import_catalog.run(file(tmp_path, many(3)), shop.target("out_9"), language="en")
    shop.outlets["out_2"] = "Senen"
    with pytest.raises(ImportStopped, match=r"several outlets: out_1 \(Kemang\), out_2 \(Senen\)"):
        await import_catalog.run(file(tmp_path, many(3)), shop.target(None), language="en")
    assert shop.batches == []
    summary = await import_catalog.run(file(tmp_path, f"barcode,nama,harga\n{GTIN},Kopi,1000\n"), shop.target(None))
    assert summary.created == 1


@pytest.mark.parametrize("gateway", ["127.0.0.1:8080", "ftp://x", "http://", "http://[", ""])
async def test_an_address_that_is_none_is_told(tmp_path: Path, gateway: str) -> None:
    with pytest.raises(ImportStopped, match="gateway address"):
        await import_catalog.run(file(tmp_path, many(1)), Target(gateway, KEY), language="en")


@pytest.mark.parametrize(
    ("header", "now", "seconds"),
    [
        ("3", None, 3.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", datetime(2026, 11, 23, 12, tzinfo=UTC), 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", datetime(2026, 11, 23, 12, tzinfo=UTC), 0.0),
        ("soon", None, None),
        ("-1", None, None),
        (None, None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, now: datetime | None, seconds: float | None) -> None:
    assert catalog_upload.retry_after(header, now or datetime.now(UTC)) == seconds


async def command(*arguments: str, cwd: Path = ROOT) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.import_catalog", *arguments,
        cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "GIPOS_API_KEY"},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_takes_gateway_key_and_outlet_from_the_state_file(shop: Shop, tmp_path: Path) -> None:
    state = tmp_path / "up.json"
    state.write_text(json.dumps({"gateway_url": shop.url, "api_key": KEY, "outlets": [{"id": OUTLET, "name": "Kemang"}]}))
    status, out, err = await command(str(file(tmp_path, DIRT)), "--state", str(state))
    assert status == 0
    assert 'Baris 4: harga_jual "200": harga jual Rp200 di bawah harga beli Rp1.800 [ditahan]' in out
    assert "7 baris: 1 baik, 4 meragukan, 2 tidak bisa masuk." in out
    assert "Dikirim 1: 1 baru, 0 diperbarui, 0 tidak berubah, 0 gagal" in out
    assert err == "Mengirim: 1 dari 1 produk\n"
    assert shop.stock == {GTIN: "3"}


async def test_the_command_says_in_one_sentence_why_it_cannot_run(shop: Shop, tmp_path: Path) -> None:
    path = file(tmp_path, DIRT)
    headless = tmp_path / "headless.csv"
    headless.write_text("kode,stok\nA,1\n")
    reach = ["--gateway", shop.url, "--api-key", KEY, "--lang", "en"]
    for arguments, words in (
        (
            [str(headless), *reach],
            "Required columns are missing: name, price. Found in line 1: kode, stok. Accepted headers for name: nama,",
        ),
        ([str(tmp_path / "none.csv"), *reach], "cannot be read: No such file or directory."),
        ([str(path), "--gateway", "http://127.0.0.1:1", *reach[2:]], "cannot be reached (connection refused)"),
        ([str(path), "--state", str(tmp_path / "none.json"), "--lang", "en"], "Run scripts/up first"),
    ):
        status, out, err = await command(*arguments)
        assert (status, out, len(err.splitlines())) == (1, "", 1)
        assert words in err
        assert KEY not in err
