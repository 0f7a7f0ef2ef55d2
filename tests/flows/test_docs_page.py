"""The documentation pages in a real browser: they draw every call, "try it" works, and nothing is asked of anybody else."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--window-size=1280,1200", "about:blank",
)  # fmt: skip
SECONDS = 45

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


class Browser:
    """One tab, driven over the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.asked: list[str] = []
        """Every address that a page asked for."""
        self.complaints: list[str] = []
        """What the browser refused or a script failed with."""
        for domain in ("Network", "Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: Any) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(parameters["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])

    def run(self, script: str) -> Any:
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """The first value of the script that is true."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never: {script}\n{self.complaints}\n{self.run('document.body.innerText.slice(0, 2000)')}")

    def type(self, selector: str, text: str) -> None:
        """Types into a field as a person does."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.send("Input.insertText", text=text)

    def open(self, address: str) -> None:
        self.asked.clear()
        self.complaints.clear()
        self.send("Page.navigate", url=address)


@pytest.fixture(scope="module")
def base(platform: Path) -> str:
    address: str = json.loads(platform.read_text())["gateway_url"]
    return address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    profile = tmp_path_factory.mktemp("chromium")
    process = subprocess.Popen([CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
    try:
        file = profile / "DevToolsActivePort"
        until = time.monotonic() + SECONDS
        while not file.exists() or not file.read_text():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        port = file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=SECONDS) as answer:
            tab = next(item for item in json.load(answer) if item["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Browser(socket)
    finally:
        process.kill()
        process.wait()


def calls(base: str) -> int:
    """How many calls the document has, those that we make to subscribers included."""
    with urllib.request.urlopen(f"{base}/openapi.json", timeout=SECONDS) as answer:
        document = json.load(answer)
    return sum(len(methods) for methods in (*document["paths"].values(), *document["webhooks"].values()))


def assert_stays_at_home(browser: Browser, base: str) -> None:
    away = [address for address in browser.asked if not address.startswith((base, "data:", "blob:", "about:", "chrome:"))]
    assert away == []
    assert browser.complaints == []


def test_swagger_ui_draws_every_call_and_tries_one_with_a_key(browser: Browser, base: str, platform: Path) -> None:
    browser.open(f"{base}/docs")
    browser.wait(f"document.querySelectorAll('.opblock').length === {calls(base)}")
    assert "OAS 3.1" in browser.run("document.body.innerText")
    key = json.loads(platform.read_text())["api_key"]
    browser.run("document.querySelector('.authorize').click()")
    browser.wait("!!document.querySelector('input[aria-label=\"auth-bearer-value\"]')")
    browser.type('input[aria-label="auth-bearer-value"]', key)
    browser.run(
        "document.querySelector('input[aria-label=\"auth-bearer-value\"]').closest('form').querySelector('.authorize').click()"
    )
    browser.run("document.querySelector('.close-modal').click()")
    browser.run("document.querySelector('#operations-Account-getCaller .opblock-summary-control').click()")
    browser.wait("!!document.querySelector('#operations-Account-getCaller .execute')")
    browser.run("document.querySelector('#operations-Account-getCaller .execute').click()")
    said = browser.wait("document.querySelector('#operations-Account-getCaller .live-responses-table .response')?.innerText")
    assert re.match(r"200\s", said)
    assert '"tenant_name": "Toko Contoh"' in said
    # A list is not filtered by examples before anybody asks for it.
    browser.run("document.querySelector('#operations-Products-listProducts .opblock-summary-control').click()")
    field = "#operations-Products-listProducts tr[data-param-name=category] input"
    browser.wait(f"!!document.querySelector({json.dumps(field)})")
    assert browser.run(f"document.querySelector({json.dumps(field)}).value") == ""
    assert_stays_at_home(browser, base)
    # The key lives as long as the page.
    assert browser.run("JSON.stringify(Object.entries(localStorage))").find(key) == -1
    browser.open(f"{base}/docs")
    browser.wait("!!document.querySelector('.authorize.unlocked')")


def test_redoc_draws_every_call_with_curl_python_and_typescript(browser: Browser, base: str) -> None:
    browser.open(f"{base}/docs/redoc#operation/createProduct")
    # It draws what is not in sight a little later.
    browser.wait(f"document.querySelectorAll('[data-section-id*=\"operation/\"]').length >= {calls(base)}")
    samples = browser.wait("document.querySelector('[data-section-id$=\"operation/createProduct\"]')?.innerText")
    for word in ("curl", "Python", "TypeScript", "Idempotency-Key", "Teh Botol"):
        assert word in samples
    # The search index is made in a worker.
    browser.type('input[placeholder="Search..."]', "refund")
    browser.wait("document.querySelector('[data-role=\"search:results\"]')?.innerText.includes('Gives back a sale')")
    assert_stays_at_home(browser, base)


@pytest.mark.parametrize("path", ["/?lang=id", "/docs", "/docs/redoc", "/docs/guides", "/docs/guides/webhooks", "/docs/errors"])
def test_a_page_fits_a_phone_and_the_keyboard_reaches_its_content_first(browser: Browser, base: str, path: str) -> None:
    browser.send("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=False)
    try:
        browser.open(f"{base}{path}")
        browser.wait("document.readyState === 'complete' && !!document.querySelector('main h1')")
        if path not in {"/docs", "/docs/redoc"}:
            assert browser.run("document.documentElement.scrollWidth") <= 360
        browser.send("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        assert browser.run("document.activeElement.className") == "skip"
        assert browser.run("document.activeElement.getBoundingClientRect().left") >= 0
        assert_stays_at_home(browser, base)
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")
