"""`--detach`: starts the supervisor in a session of its own and waits for its word that everything is healthy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from scripts.stack.arguments import Layout


def launch(layout: Layout, arguments: list[str]) -> int:
    """Starts the supervisor in the background; returns 0 when all is healthy, 1 after printing why not.

    Ctrl-C while waiting stops what was started.
    """
    try:
        layout.logs.mkdir(parents=True, exist_ok=True)
        path = layout.logs / "supervisor.log"
        log = path.open("ab")
        path.chmod(0o600)  # what is shown at the start names the API key
    except OSError as error:
        print(
            f"The data folder {layout.data} cannot be used ({error.strerror}); choose another place with --data.", file=sys.stderr
        )
        return 1
    reading, writing = os.pipe()
    kept = [argument for argument in arguments if argument != "--detach"]
    with log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "scripts.stack", *kept, "--report-to", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as reports:
            for report in reports:
                kind, text = json.loads(report)
                print(text, file=sys.stderr if kind == "failed" else sys.stdout, flush=True)
                if kind == "healthy":
                    return 0
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 130
    return process.returncode or 1


def reporter(descriptor: int) -> Callable[[str, str], None]:
    """For the process in the background: sends what a person should read to the waiting command, and to our own log."""
    waiting = True

    def report(kind: str, text: str) -> None:
        nonlocal waiting
        print(text, flush=True)
        if waiting:
            os.write(descriptor, (json.dumps([kind, text]) + "\n").encode())
            if kind == "healthy":
                os.close(descriptor)
                waiting = False

    # Programs we start must not hold the pipe open.
    os.set_inheritable(descriptor, False)
    return report
