"""Clients that generators of others make of our document: they compile, and they work against a running cloud."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scripts.examples import shops

CLIENTS = Path(__file__).parent / "clients"


@pytest.fixture
async def two_shops(database_url: str, tmp_path: Path) -> AsyncIterator[shops.Shops]:
    async with shops.opened(database_url, tmp_path, 2) as opened:
        yield opened


async def run(*command: str | Path, folder: Path, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(100):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_a_client_of_openapi_typescript_compiles_and_works(
    two_shops: shops.Shops, typescript_project: Path, node: str
) -> None:
    shutil.copy(CLIENTS / "story.ts", typescript_project)
    compiler = typescript_project / "node_modules" / "typescript" / "lib" / "tsc.js"
    await run(node, compiler, "--project", typescript_project, folder=typescript_project)
    environment = {"GIPOS_URL": two_shops.url, "GIPOS_API_KEY": two_shops.keys[0]}
    assert await run(node, typescript_project / "story.ts", folder=typescript_project, **environment) == "ok\n"


async def test_a_client_of_openapi_python_client_is_made_without_a_warning_and_works(
    two_shops: shops.Shops, client_generator: Path, api_document: Path, tmp_path: Path
) -> None:
    generator = client_generator.with_name("openapi-python-client")
    options = ("--path", api_document, "--output-path", tmp_path / "client", "--fail-on-warning")
    said = await run(generator, "generate", *options, folder=tmp_path, PATH=f"{client_generator.parent}:{os.environ['PATH']}")
    assert "arning" not in said
    models = sorted(path.stem for path in (tmp_path / "client" / "gi_pos_api_client" / "models").glob("*.py"))
    # A model without a name of its own gets one made of numbers.
    assert not [name for name in models if re.search(r"_type_\d|_item_|additional_property", name)]
    environment = {"GIPOS_URL": two_shops.url, "GIPOS_API_KEY": two_shops.keys[1], "PYTHONPATH": str(tmp_path / "client")}
    assert await run(client_generator, CLIENTS / "story.py", folder=tmp_path, **environment) == "ok\n"
