"""How the programs of this benchmark talk: JSON, a line each, on standard input and output.

Whoever started one ends it by ending its input. So none outlives the benchmark, whatever ended that: the pipe ends with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, TextIO

LONGEST = 1 << 26
"""Bytes of a line: ten thousand tills are named in one."""


def claim_output() -> TextIO:
    """Standard output for answers alone: whatever else is printed goes to standard error, which is kept in a file."""
    mine = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return mine


def say(output: TextIO, answer: Any) -> None:
    """Answers, in one line."""
    output.write(json.dumps(answer) + "\n")
    output.flush()


async def commands() -> AsyncIterator[dict[str, Any]]:
    """What is said on standard input, until it ends."""
    reader = asyncio.StreamReader(limit=LONGEST)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)
