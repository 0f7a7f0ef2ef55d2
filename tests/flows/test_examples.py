"""Every example of the documentation, performed: by curl, Python and TypeScript, for a merchant each, against a real cloud.

The programs are those that the document shows, to the letter but for the ids, which are those that earlier answers gave.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway_rest.openapi import examples, samples
from gateway_rest.openapi.examples import Example
from scripts.examples import shops
from scripts.examples.story import Story, differences

EXAMPLES = examples.load()
Perform = Callable[[Example], Awaitable[Any]]


@pytest.fixture
async def three_shops(database_url: str, tmp_path: Path) -> AsyncIterator[shops.Shops]:
    async with shops.opened(database_url, tmp_path, 3) as opened:
        yield opened


async def run(command: list[str], url: str, key: str, *, first_line: bool = False, **more: str) -> str:
    """What a program writes; of one that goes on, the first line it writes."""
    environment = {"PATH": os.environ["PATH"], "GIPOS_URL": url, "GIPOS_API_KEY": key, **more}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        if first_line:
            line = await process.stdout.readline()
            if process.returncode is None:
                process.kill()
            _, errors = await process.communicate()
            assert line, errors.decode()
            return line.decode()
        output, errors = await process.communicate()
    assert process.returncode == 0, f"{command}: {errors.decode()}"
    return output.decode()


async def tell(perform: Perform, language: str) -> list[str]:
    """Performs all examples in order; what was not as shown."""
    story, wrong = Story(), []
    for name, example in EXAMPLES.items():
        answer = await perform(story.told(example))
        wrong += [f"{language}, {name}: {text}" for text in differences(example.answer, answer, example.varies)]
        story.learn(example.answer, answer)
    return wrong


async def test_every_example_does_what_it_says_in_every_language(
    three_shops: shops.Shops, typescript_project: Path, node: str, tmp_path: Path
) -> None:
    url, keys = three_shops.url, three_shops.keys
    (tmp_path / ".curlrc").write_text('write-out = "\\n%{http_code}"\n')

    async def by_curl(example: Example) -> Any:
        command = ["bash", "-c", samples.curl(example)]
        text = await run(command, url, keys[0], first_line=example.is_stream, CURL_HOME=str(tmp_path))
        if example.is_stream:
            return json.loads(text)
        body, _, status = text.rpartition("\n")
        assert int(status) == example.status, f"{example.operation}: {text}"
        return json.loads(body) if body else None

    async def by_python(example: Example) -> Any:
        file = tmp_path / f"{example.operation}.py"
        file.write_text(samples.python(example))
        value = ast.literal_eval(await run([sys.executable, "-I", str(file)], url, keys[1], first_line=example.is_stream))
        return None if value == example.status else value

    async def by_typescript(example: Example) -> Any:
        file = typescript_project / "told" / f"{example.operation}.ts"
        file.parent.mkdir(exist_ok=True)
        file.write_text(samples.typescript(example))
        value = json.loads(await run([node, str(file)], url, keys[2], first_line=example.is_stream))
        return None if value == example.status else value

    told = await asyncio.gather(tell(by_curl, "curl"), tell(by_python, "Python"), tell(by_typescript, "TypeScript"))
    assert [text for texts in told for text in texts] == []


async def test_the_typescript_of_every_example_fits_the_types(typescript_project: Path, node: str) -> None:
    folder = typescript_project / "samples"
    folder.mkdir(exist_ok=True)
    for name, example in EXAMPLES.items():
        (folder / f"{name}.ts").write_text(samples.typescript(example).replace('"./gipos"', '"../gipos"'))
    compiler = typescript_project / "node_modules" / "typescript" / "lib" / "tsc.js"
    process = await asyncio.create_subprocess_exec(
        *(node, str(compiler), "--project", str(typescript_project)), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
