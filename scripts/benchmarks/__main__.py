"""`scripts/bench NAME [--json]`: runs one benchmark and prints its figures; with --json the last line is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from scripts.benchmarks import api, link_dashboards, link_down, sale

BENCHMARKS: dict[str, tuple[Callable[[], Awaitable[dict[str, Any]]], str]] = {
    "api": (api.measure, "reads and durable writes by REST against Envoy's transcoder and against FastAPI with an ORM"),
    "link-dashboards": (link_dashboards.one_update_to_many, "one change to 1,000 dashboards over WebSocket"),
    "link-down": (link_down.measure, "frames, snapshots and commit-to-frame of the link, without the network"),
    "sale": (sale.measure, "a sale of three lines by REST, end to end, against a bare commit"),
}


def main() -> int:
    """The exit code."""
    listing = "\n".join(f"  {name:16} {text}" for name, (_, text) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the platform on this machine. Compare ratios: both sides are timed in turn in one run.",
        epilog=f"benchmarks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, help="which one")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    measure, text = BENCHMARKS[arguments.name]
    print(f"{arguments.name}: {text}", flush=True)

    async def run() -> dict[str, Any]:
        return await measure()

    try:
        result = asyncio.run(run())
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for name, value in result.items():
        print(f"  {name}: {value}")
    if arguments.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
