"""The live dashboard in a real browser: in both languages, on a phone and on a desk, live, and honest about being cut off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks.platform import free_port_base

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def up(platform: Path) -> Any:
    return json.loads(platform.read_text())


def call(up: Any, method: str, path: str, body: object = None) -> Any:
    headers = {"authorization": f"Bearer {up['api_key']}", "content-type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(up["gateway_url"] + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def sell(up: Any, amount: int) -> None:
    """A sale of this much, by an integration."""
    product = {"name": f"Barang {amount}", "price": {"amount": amount}, "tax_class": "TAX_CLASS_NON_PKP"}
    made = call(up, "POST", "/api/v1/products", product)
    lines = [{"product_id": made["id"], "quantity": "1"}]
    call(up, "POST", "/api/v1/sales", {"outlet_id": up["outlets"][0]["id"], "lines": lines})


def shows(browser: Any, amount: int) -> None:
    digits = f"{amount:,}".replace(",", "[.,]")
    browser.wait(f"/{digits}/.test(document.getElementById('board').innerText)")


def enter(browser: Any, up: Any, language: str, key: str = "", url: str = "") -> None:
    browser.open(f"{url or up['gateway_url']}/dashboard?lang={language}")
    browser.wait("document.readyState === 'complete' && document.getElementById('door') !== null")
    browser.wait("typeof leave === 'function'")
    browser.run("sessionStorage.removeItem('gipos.key'); leave()")
    browser.type("#key", key or up["api_key"])
    browser.run("document.querySelector('#door button').click()")
    browser.wait("document.getElementById('state').className === 'live'")


@contextmanager
def gateway(up: Any, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A gateway of our own in front of the platform's cloud, to be killed; its address."""
    command = [sys.executable, "-m", "gateway_rest", "--port", str(port), "--cloud", up["grpc_address"]]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).resolve().parents[2], env=dict(os.environ))
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=30).close()
            except OSError:
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.05)
            else:
                break
        yield url, process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("language", ["id", "en"])
def test_it_shows_what_is_sold_as_it_happens(browser: Any, up: Any, language: str) -> None:
    enter(browser, up, language)
    heading = {"id": "Penjualan hari ini", "en": "Sales today"}[language]
    browser.wait(f"document.body.innerText.includes({json.dumps(heading)})")
    amount = {"id": 1_234_567, "en": 7_654_321}[language]
    sell(up, amount)
    shows(browser, amount)
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
    browser.run("socket.onmessage = null; heardAt[0] -= 21000")
    browser.wait("!document.getElementById('stale').hidden && document.getElementById('state').className === 'stale'")
    assert "menyambung lagi" in browser.run("document.getElementById('stale').innerText")
    browser.run("globalThis.stayed = [...document.querySelectorAll('#board section')]")
    sell(up, 1_357_924)
    browser.run("socket.close()")
    browser.wait("document.getElementById('stale').hidden && document.getElementById('state').className === 'live'")
    shows(browser, 1_357_924)
    assert browser.run("stayed.every((each) => each.isConnected)"), "what was known stays"


def test_a_gateway_that_is_killed_and_comes_back_is_found_again_and_nothing_is_missing(browser: Any, up: Any) -> None:
    port = free_port_base()
    with gateway(up, port) as (url, process):
        enter(browser, up, "id", url=url)
        browser.wait("document.querySelectorAll('#board section').length >= 4")
        browser.run("globalThis.stayed = document.querySelector('#board section')")
        process.kill()
        browser.wait("document.getElementById('state').textContent === 'Menyambung lagi…'")
        assert browser.run("document.getElementById('board').hidden") is False, "what was known stays"
        sell(up, 2_345_678)
    with gateway(up, port):
        browser.wait("document.getElementById('state').className === 'live'")
        shows(browser, 2_345_678)
        assert browser.run("stayed.isConnected"), "it is the same page, not loaded again"


def test_what_happened_while_the_machine_slept_is_there_when_it_wakes(browser: Any, up: Any) -> None:
    enter(browser, up, "id")
    browser.wait("document.querySelectorAll('#board section').length >= 4")
    # Asleep: a socket that nobody answers and of whose end nobody hears, and clocks that went on.
    browser.run("""{
      const line = socket; line.onmessage = null; line.onclose = null; globalThis.asleep = line;
      heardAt[1] -= 3600_000; begunAt[1] -= 3600_000;
    }""")
    sell(up, 3_456_789)
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")
    shows(browser, 3_456_789)
    browser.wait("socket !== asleep && document.getElementById('state').className === 'live'")


def test_a_key_that_is_revoked_closes_the_page_that_shows_it(browser: Any, up: Any) -> None:
    key = call(up, "POST", "/api/v1/api-keys", {"name": "layar", "scopes": ["sales:read", "inventory:read"]})
    enter(browser, up, "id", key=key["key"])
    browser.wait("document.querySelectorAll('#board section').length === 3")
    call(up, "DELETE", f"/api/v1/api-keys/{key['id']}")
    browser.wait("document.getElementById('problem').textContent.includes('sudah berakhir')")
    assert browser.run("document.getElementById('board').hidden")
    assert browser.run("document.getElementById('board').childElementCount") == 0
    assert browser.run("sessionStorage.length") == 0
    assert browser.run("document.activeElement.id") == "key"


def test_two_tabs_know_nothing_of_each_other(browser: Any, up: Any) -> None:
    enter(browser, up, "id")
    with browser.another() as tab:
        enter(tab, up, "en")
        sell(up, 4_567_891)
        shows(browser, 4_567_891)
        shows(tab, 4_567_891)
        tab.run("document.getElementById('leave').click()")
    sell(up, 5_678_912)
    shows(browser, 5_678_912)


def test_screen_readers_hear_of_the_connection_and_not_of_every_sale(browser: Any, up: Any) -> None:
    enter(browser, up, "id")
    browser.wait("document.querySelectorAll('#board section').length >= 4")
    live = browser.run("[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map((each) => each.id)")
    assert sorted(live) == ["problem", "stale", "state"], "the board itself is none"
    browser.run("""{
      globalThis.said = 0;
      const watch = new MutationObserver((changes) => said += changes.length);
      for (const each of document.querySelectorAll('[role=status], [role=alert]')) {
        watch.observe(each, { childList: true, characterData: true, subtree: true });
      }
      globalThis.kept = [...document.querySelectorAll('#board h2, #board h3, #board table')];
    }""")
    for amount in (6_789_123, 7_891_234):
        sell(up, amount)
        shows(browser, amount)
    assert browser.run("said") == 0
    assert browser.run("kept.every((each) => each.isConnected)"), "a reader does not lose its place"
    named = "(each) => document.getElementById(each.getAttribute('aria-labelledby'))"
    assert browser.run(f"[...document.querySelectorAll('#board section')].every({named})")
    assert browser.run("document.querySelectorAll('h1').length === 1 && document.querySelectorAll('main, header').length === 2")


CONTRASTS = """(() => {
  const parsed = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) =>
    e === null ? [255, 255, 255, 1] : over(parsed(getComputedStyle(e).backgroundColor), ground(e.parentElement));
  const faint = (e) => e === null ? 1 : Number(getComputedStyle(e).opacity) * faint(e.parentElement);
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.offsetParent || e.matches('.skip') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const below = ground(e);
    const text = parsed(getComputedStyle(e).color);
    const [one, other] = [light(over([...text.slice(0, 3), text[3] * faint(e)], below)), light(below)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) bad.push(`${e.className || e.nodeName} ${ratio.toFixed(2)}`);
  }
  return bad;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_in_either_theme_also_when_it_is_old(browser: Any, up: Any, scheme: str) -> None:
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        enter(browser, up, "id")
        browser.wait("document.querySelectorAll('#board section').length >= 4")
        assert browser.run("getComputedStyle(document.body).backgroundColor") == {
            "light": "rgb(255, 255, 255)", "dark": "rgb(15, 20, 25)",
        }[scheme]  # fmt: skip
        assert browser.run(CONTRASTS) == []
        browser.run("socket.onmessage = null; heardAt[0] -= 21000")
        browser.wait("!document.getElementById('stale').hidden")
        assert browser.run(CONTRASTS) == []
    finally:
        browser.send("Emulation.setEmulatedMedia", features=[])


def test_the_keyboard_is_enough(browser: Any, up: Any) -> None:
    browser.open(f"{up['gateway_url']}/?lang=id")
    browser.wait("document.querySelector('a[href=\"/dashboard?lang=id\"]') !== null")
    browser.run("document.querySelector('a[href=\"/dashboard?lang=id\"]').click()")
    browser.wait("document.title.startsWith('Dasbor toko') && typeof leave === 'function'")
    browser.run("leave()")

    def press(key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            more = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    browser.run("document.activeElement.blur()")
    for _ in range(8):
        press("Tab", 9)
        if browser.run("document.activeElement.id") == "key":
            break
    assert browser.run("document.activeElement.id") == "key"
    browser.send("Input.insertText", text=up["api_key"])
    press("Enter", 13)
    browser.wait("document.getElementById('state').className === 'live'")
    assert browser.run("document.activeElement.id") == "content", "not lost with the field that went"


def test_a_wrong_key_is_told_and_forgotten(browser: Any, up: Any) -> None:
    enter(browser, up, "id")
    browser.run("document.getElementById('leave').click()")
    browser.wait("!document.getElementById('door').hidden")
    assert browser.run("sessionStorage.length") == 0
    browser.type("#key", "gipos_test_x")
    browser.run("document.querySelector('#door button').click()")
    browser.wait("document.getElementById('problem').textContent.includes('tidak dikenal')")
    assert browser.run("sessionStorage.length") == 0
