"""`python -m scripts.examples`: performs every example for a fresh merchant and writes the answers into the example files.

For whoever changes the contract. It needs nothing running: it brings its own database and shop, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from cloud.platform.postgres import EmbeddedPostgres
from gateway_rest.openapi import examples
from gateway_rest.openapi.examples import Example
from scripts.examples import shops
from scripts.examples.story import Story

FOLDER = Path(examples.__file__).parent / "examples"
_SECRETS = {"key", "secret"}


async def record(database_url: str, folder: Path) -> int:
    """Performs and writes; the exit code says whether every call did as its example says."""
    story, failed = Story(), 0
    answers: dict[str, Any] = {}
    async with shops.opened(database_url, folder, 1) as open_shops, aiohttp.ClientSession(open_shops.url) as session:
        for name, example in examples.load().items():
            status, answer = await perform(story.told(example), session, open_shops.keys[0])
            if status != example.status:
                failed += 1
                print(f"{name}: {status} instead of {example.status}: {json.dumps(answer, ensure_ascii=False)}")
                continue
            story.learn(example.answer, answer)
            answers[name] = answer
    shown: dict[str, str] = {}
    for text, real in story.known.items():
        shown.setdefault(real, text)  # what the first example calls it
    for path in sorted(FOLDER.glob("*.json")):
        given = json.loads(path.read_text("utf-8"))
        for name, call in given.items():
            if answers.get(name) is not None:
                call["answer"] = _shown(answers[name], shown)
        path.write_text(json.dumps(given, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"{len(answers)} examples written, {failed} failed")
    return 1 if failed else 0


async def perform(example: Example, session: aiohttp.ClientSession, key: str) -> tuple[int, Any]:
    """Status and answer of one call; of a stream, its first message."""
    query = [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in example.query.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    headers = {"Authorization": f"Bearer {key}", "User-Agent": "toko-online/1.4", **example.headers}
    async with session.request(
        example.method.upper(), example.path, params=query, json=example.body, headers=headers, timeout=aiohttp.ClientTimeout(20)
    ) as answer:
        text = await (answer.content.readline() if example.is_stream else answer.read())
        return answer.status, json.loads(text) if text else None


def _shown(value: Any, shown: dict[str, str], name: str = "") -> Any:
    """An answer with the ids that the examples use, and without real secrets."""
    if isinstance(value, dict):
        return {key: _shown(item, shown, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item, shown, name) for item in value]
    if name in _SECRETS and value:
        return value[: value.rfind("_", 0, 20) + 1] + "…"
    return shown.get(value, value) if isinstance(value, str) else value


def main() -> int:
    """Brings up a database of its own for the time it takes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="gipos-examples-") as temporary:
        folder = Path(temporary)
        with EmbeddedPostgres(folder / "postgres") as postgres:
            return asyncio.run(record(postgres.start(), folder))


if __name__ == "__main__":
    sys.exit(main())
