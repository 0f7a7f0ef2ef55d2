"""`scripts/bench NAME [--json]`: runs one benchmark and prints its figures; with --json the last line is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from scripts.benchmarks import api, sale
from scripts.benchmarks.link import run as link

BENCHMARKS: dict[str, tuple[Callable[[], Awaitable[dict[str, Any]]], str]] = {
    "api": (api.measure, "reads and durable writes by REST against Envoy's transcoder and against FastAPI with an ORM"),
    "link": (link.measure, "tablets and dashboards: idle streams, fan-out, uploads, reconnects beside plain grpc.aio"),
    "sale": (sale.measure, "a sale of three lines by REST, end to end, against a bare commit"),
}


def _parsed() -> argparse.Namespace:
    listing = "\n".join(f"  {name:16} {text}" for name, (_, text) in BENCHMARKS.items())
    parts = "\n".join(f"  {name:16} {text}" for name, (_, text) in link.PARTS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the platform on this machine. Compare ratios: both sides are timed in turn in one run.",
        epilog=f"benchmarks:\n{listing}\n\nparts of link (--only PART[,PART]):\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, help="which one")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--only", default="", metavar="PART[,PART]", help="link: only these parts")
    parser.add_argument("--rounds", type=int, default=0, help="link: so many rounds of each part")
    parser.add_argument("--quick", action="store_true", help="link: a tenth of everything, to see that it runs")
    arguments = parser.parse_args()
    if arguments.name != "link" and (arguments.only or arguments.rounds or arguments.quick):
        parser.error("--only, --rounds and --quick are for link")
    arguments.only = [part for part in arguments.only.split(",") if part]
    if unknown := [part for part in arguments.only if part not in link.PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(link.PARTS)}")
    return arguments


def main() -> int:
    """The exit code."""
    arguments = _parsed()
    measure, text = BENCHMARKS[arguments.name]
    print(f"{arguments.name}: {text}", flush=True)

    async def run() -> dict[str, Any]:
        if arguments.name == "link":
            return await link.measure(arguments.only, arguments.rounds, quick=arguments.quick)
        return await measure()

    try:
        result = asyncio.run(run())
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("Interrupted; everything that was started has ended.\n")
        return 130
    if arguments.name != "link":  # which prints a table of its own
        for name, value in result.items():
            print(f"  {name}: {value}")
    if arguments.json:
        print(json.dumps(result))
    return 1 if result.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main())
