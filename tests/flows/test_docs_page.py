"""The documentation pages in a real browser: they draw every call, "try it" works, and nothing is asked of anybody else."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

SECONDS = 45

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def base(platform: Path) -> str:
    address: str = json.loads(platform.read_text())["gateway_url"]
    return address


def calls(base: str) -> int:
    """How many calls the document has, those that we make to subscribers included."""
    with urllib.request.urlopen(f"{base}/openapi.json", timeout=SECONDS) as answer:
        document = json.load(answer)
    return sum(len(methods) for methods in (*document["paths"].values(), *document["webhooks"].values()))


def assert_stays_at_home(browser: Any, base: str) -> None:
    away = [address for address in browser.asked if not address.startswith((base, "data:", "blob:", "about:", "chrome:"))]
    assert away == []
    assert browser.complaints == []


def test_swagger_ui_draws_every_call_and_tries_one_with_a_key(browser: Any, base: str, platform: Path) -> None:
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


def test_redoc_draws_every_call_with_curl_python_and_typescript(browser: Any, base: str) -> None:
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
def test_a_page_fits_a_phone_and_the_keyboard_reaches_its_content_first(browser: Any, base: str, path: str) -> None:
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
