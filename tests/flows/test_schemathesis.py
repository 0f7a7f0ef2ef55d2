"""schemathesis over the whole API with all its checks: hostile and well-formed requests, made from the document."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway_rest.openapi import examples
from kernel.signatures import new_key
from scripts.examples import shops

HERE = Path(__file__).parent
EXAMPLES = "4"
"""Per operation and phase. By hand with more: see schemathesis.toml."""
KEYS = "/api/v1/api-keys"
"""Tried with a key of their own: who changes keys at random soon changes the one that is tried with."""


@pytest.fixture
async def two_shops(database_url: str, tmp_path: Path) -> AsyncIterator[shops.Shops]:
    async with shops.opened(database_url, tmp_path, 2) as opened:
        yield opened


async def tried(url: str, key: str, folder: Path, *selection: str) -> str:
    """What schemathesis says; empty when it found nothing."""
    folder.mkdir()
    program = Path(sys.executable).with_name("st")
    options = ("--max-examples", EXAMPLES, "--continue-on-failure", "--no-color", "--generation-deterministic")
    process = await asyncio.create_subprocess_exec(
        *(str(program), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{url}/openapi.json", *options, *selection),
        *("--header", f"Authorization: Bearer {key}"),
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert "Test cases:" in text, text
    return "" if process.returncode == 0 else text


@pytest.mark.timeout(600)
async def test_schemathesis_finds_nothing(two_shops: shops.Shops, tmp_path: Path) -> None:
    said = await asyncio.gather(
        tried(two_shops.url, two_shops.keys[0], tmp_path / "all", "--exclude-path-regex", KEYS),
        tried(two_shops.url, two_shops.keys[1], tmp_path / "keys", "--include-path-regex", KEYS),
    )
    if found := "".join(said):
        pytest.fail(found, pytrace=False)  # as it is: a difference of strings would be cut short


async def test_no_call_is_answered_without_a_key_that_is_right(two_shops: shops.Shops) -> None:
    unknown = new_key("gipos_test_")
    async with aiohttp.ClientSession(two_shops.url) as session:
        for name, example in examples.load().items():
            options: dict[str, Any] = {"json": example.body} if example.body is not None else {}
            for key in ("", "Bearer nonsense", f"Bearer {unknown}", "Basic dXNlcjpwYXNz"):
                headers = {"Authorization": key} if key else {}
                async with session.request(example.method.upper(), example.path, headers=headers, **options) as answer:
                    reason = (await answer.json(content_type="application/problem+json"))["reason"]
                    # Who fails too often at one place is kept waiting.
                    assert (answer.status, reason) in {(401, "UNAUTHENTICATED"), (429, "RATE_LIMITED")}, (name, key)
                    assert answer.status != 401 or answer.headers["WWW-Authenticate"].startswith("Bearer")
