"""The documentation page in a real browser: it draws every call, from files of ours only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=10000",
)  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
def test_the_documentation_page_draws_every_call(platform: Path, tmp_path: Path) -> None:
    base = json.loads(platform.read_text())["gateway_url"]
    with urllib.request.urlopen(f"{base}/openapi.json", timeout=10) as answer:
        document = json.load(answer)
    calls = [(path, method) for path, methods in document["paths"].items() for method in methods if method != "parameters"]
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path}", "--dump-dom", f"{base}/docs"],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert len(re.findall(r'class="opblock opblock-', done.stdout)) == len(calls)
    assert "Creates or updates up to 500 products" in done.stdout
    # Whatever the page loads comes from the same place: it works in a shop without internet.
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', done.stdout)
    assert loaded
    assert not [address for address in loaded if "//" in address and not address.startswith((base, "data:"))]
