"""The live dashboard in a real browser: in both languages, on a phone and on a desk, live, and honest about being cut off."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def up(platform: Path) -> Any:
    return json.loads(platform.read_text())


def sell(up: Any, amount: int) -> None:
    """A sale of this much, by an integration."""

    def call(path: str, body: object) -> Any:
        headers = {"authorization": f"Bearer {up['api_key']}", "content-type": "application/json"}
        request = urllib.request.Request(up["gateway_url"] + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    product = call(
        "/api/v1/products", {"name": f"Barang {amount}", "price": {"amount": amount}, "tax_class": "TAX_CLASS_NON_PKP"}
    )
    lines = [{"product_id": product["id"], "quantity": "1"}]
    call("/api/v1/sales", {"outlet_id": up["outlets"][0]["id"], "lines": lines})


def enter(browser: Any, up: Any, language: str) -> None:
    browser.open(f"{up['gateway_url']}/dashboard?lang={language}")
    browser.wait("document.readyState === 'complete'")
    if browser.run("!document.getElementById('door').hidden"):
        browser.type("#key", up["api_key"])
        browser.run("document.querySelector('#door button').click()")
    browser.wait("document.getElementById('state').className === 'live'")


@pytest.mark.parametrize("language", ["id", "en"])
def test_it_shows_what_is_sold_as_it_happens(browser: Any, up: Any, language: str) -> None:
    enter(browser, up, language)
    heading = {"id": "Penjualan hari ini", "en": "Sales today"}[language]
    browser.wait(f"document.body.innerText.includes({json.dumps(heading)})")
    amount = {"id": 1_234_567, "en": 7_654_321}[language]
    sell(up, amount)
    digits = f"{amount:,}".replace(",", "[.,]")
    browser.wait(f"/{digits}/.test(document.body.innerText)")
    browser.wait(f"document.body.innerText.includes({json.dumps(up['outlets'][0]['name'])})")
    assert browser.run("document.documentElement.lang") == language
    # The key is in no address and in no store that outlives the tab; nobody else is asked anything.
    assert not [address for address in browser.asked if up["api_key"] in address]
    assert browser.run("localStorage.length") == 0
    assert browser.run("document.cookie") == ""
    assert [address for address in browser.asked if not address.startswith((up["gateway_url"], "data:"))] == []
    assert browser.complaints == []


def test_it_fits_a_phone(browser: Any, up: Any) -> None:
    browser.send("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        enter(browser, up, "id")
        browser.wait("document.querySelectorAll('#board section').length >= 4")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        seen = "[...document.querySelectorAll('button, a, input')].filter((e) => e.offsetParent && !e.matches('.skip'))"
        assert browser.run(f"{seen}.filter((e) => e.offsetHeight < 44).map((e) => e.outerHTML)") == []
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")


def test_it_says_when_it_hears_nothing_and_goes_on_by_itself(browser: Any, up: Any) -> None:
    enter(browser, up, "id")
    browser.wait("document.querySelectorAll('#board section').length >= 4")
    browser.run("heardAt -= 21000")
    browser.wait("!document.getElementById('stale').hidden && document.getElementById('state').className === 'stale'")
    assert "menyambung lagi" in browser.run("document.getElementById('stale').innerText")
    before = browser.run("document.querySelector('#board').innerText")
    browser.run("socket.close()")
    browser.wait("document.getElementById('stale').hidden && document.getElementById('state').className === 'live'")
    assert browser.run("document.querySelector('#board').innerText") == before


def test_a_wrong_key_is_told_and_forgotten(browser: Any, up: Any) -> None:
    enter(browser, up, "id")
    browser.run("document.getElementById('leave').click()")
    browser.wait("!document.getElementById('door').hidden")
    assert browser.run("sessionStorage.length") == 0
    browser.type("#key", "gipos_test_x")
    browser.run("document.querySelector('#door button').click()")
    browser.wait("document.getElementById('problem').textContent.includes('tidak dikenal')")
    assert browser.run("sessionStorage.length") == 0
