"""The guides: every program in them runs as it stands, and every link in them leads somewhere."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from markdown_it import MarkdownIt

from scripts.examples import shops

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
FAILING = "error"
"""Said behind the language of a block whose call is meant to be refused."""


def blocks(path: Path) -> list[tuple[str, str]]:
    """Language (with what stands behind it) and text of every fenced block."""
    return [(token.info, token.content) for token in MarkdownIt().parse(path.read_text()) if token.type == "fence"]


RUNNABLE = [path for path in GUIDES if any(info.split()[:1] in (["sh"], ["python"], ["ts"]) for info, _ in blocks(path))]


@pytest.fixture
async def guided(database_url: str, tmp_path: Path) -> AsyncIterator[shops.Shops]:
    async with shops.opened(database_url, tmp_path, len(RUNNABLE)) as opened:
        yield opened


async def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def shell(path: Path, quiet: Path, strict: Path) -> str:
    """The shell blocks of a guide as one session, in which calls must succeed or fail as the guide says."""
    lines = ["set -euo pipefail"]
    for info, text in blocks(path):
        match info.split():
            case ["sh"]:
                lines += [f"export CURL_HOME={strict}", text]
            case ["sh", word] if word == FAILING:
                lines += [f"export CURL_HOME={quiet}", "{", text, "} | tee refused.json", "grep -q '\"status\":4' refused.json"]
    return "\n".join(lines)


async def test_every_program_in_the_guides_runs(guided: shops.Shops, typescript_project: Path, node: str, tmp_path: Path) -> None:
    strict, quiet = tmp_path / "strict", tmp_path / "quiet"
    for folder, options in ((strict, "fail-with-body\n"), (quiet, "")):
        folder.mkdir()
        (folder / ".curlrc").write_text(options)

    async def follow(path: Path, key: str) -> None:
        folder = tmp_path / path.stem
        folder.mkdir()
        environment = {"PATH": os.environ["PATH"], "GIPOS_URL": guided.url, "GIPOS_API_KEY": key}
        await run(["bash", "-c", shell(path, quiet, strict)], folder, environment)
        for number, (info, text) in enumerate(blocks(path)):
            if info == "python":
                (folder / f"{number}.py").write_text(text)
                await run([sys.executable, "-I", str(folder / f"{number}.py")], folder, environment)
            elif info == "ts":
                file = typescript_project / f"{path.stem}-{number}.ts"
                file.write_text(text)
                await run([node, str(file)], typescript_project, environment)

    assert shutil.which("curl")
    await asyncio.gather(*(follow(path, key) for path, key in zip(RUNNABLE, guided.keys, strict=True)))
    compiler = typescript_project / "node_modules" / "typescript" / "lib" / "tsc.js"
    await run([node, str(compiler), "--project", str(typescript_project)], typescript_project, {"PATH": os.environ["PATH"]})


async def test_every_link_of_the_pages_leads_somewhere(guided: shops.Shops) -> None:
    seen: set[str] = set()
    wanted = ["/", "/?lang=id", "/docs/guides", "/docs/errors?lang=en", "/docs/errors?lang=id"]
    async with aiohttp.ClientSession(guided.url) as session:
        while wanted:
            address = wanted.pop()
            page, _, anchor = address.partition("#")
            if address in seen:
                continue
            seen.add(address)
            async with session.get(page) as answer:
                assert answer.status == 200, address
                text = await answer.text() if answer.content_type == "text/html" else ""
            assert not anchor or f'id="{anchor}"' in text, address
            if text:
                wanted += [link for link in re.findall(r'href="([^"]+)"', text) if link.startswith("/")]
                here = page.partition("?")[0]
                wanted += [f"{here}{link}" for link in re.findall(r'href="(#[^"]+)"', text)]
    assert {f"/docs/guides/{path.stem}" for path in GUIDES} <= {address.partition("#")[0] for address in seen}
