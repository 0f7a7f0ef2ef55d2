"""`scripts/up` after the environment is there: start, tell, show what happens until Ctrl-C, stop."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable

from scripts.stack import background, banner, ownership
from scripts.stack.arguments import Layout, parse
from scripts.stack.console import Console
from scripts.stack.session import Session
from scripts.stack.supervisor import StartFailed

Report = Callable[[str, str], None]
"""Receives a kind ("line", "healthy" or "failed") and the words."""


def main(arguments: list[str]) -> int:
    """Runs the stack in the foreground or, with --detach, in the background; returns the exit code."""
    options = parse(arguments)
    layout = Layout(options.data, options.port_base, options.apart)
    if options.detach:
        return background.launch(layout, arguments)
    report = _print if options.report_to is None else background.reporter(options.report_to)
    try:
        with ownership.held(layout):
            ownership.clear_leftovers(layout)
            layout.logs.mkdir(exist_ok=True)
            return asyncio.run(_run(layout, options, report))
    except ownership.AlreadyRuns as running:
        report("failed", banner.already_runs(layout, running.pid))
    except OSError as error:
        report("failed", f"The data folder {layout.data} cannot be used ({error.strerror}); choose another place with --data.")
    return 1


async def _run(layout: Layout, options: argparse.Namespace, report: Report) -> int:
    session = Session(layout, options.catalog, lambda text: report("line", text))
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told_to_stop.set)
    stop = asyncio.create_task(told_to_stop.wait())
    code = 0
    try:
        start = asyncio.create_task(session.start())
        await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            assert session.demo is not None
            report("healthy", banner.healthy(layout, session.state(), is_watched=options.report_to is None))
            await _show(Console(layout, session.demo), stop)
        else:
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
    except StartFailed as error:
        report("failed", str(error))
        code = 1
    finally:
        if code == 0:
            report("line", "Stopping (the data stays)")
        await session.stop()
    return code


async def _show(console: Console, stop: asyncio.Task[bool]) -> None:
    following = asyncio.create_task(console.follow())
    try:
        await asyncio.wait((following, stop), return_when=asyncio.FIRST_COMPLETED)
        if not stop.done():
            # The console is for looking; what it looks at goes on without it.
            print(f"The console ended ({following.exception()!r}); everything else runs on. Ctrl-C stops it.", flush=True)
            await stop
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _print(kind: str, text: str) -> None:
    print(text, file=sys.stderr if kind == "failed" else sys.stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
