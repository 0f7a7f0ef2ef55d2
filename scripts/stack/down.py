"""`scripts/down`: stops the stack of a data folder and waits until nothing of it runs. Standard library only."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Final

from scripts.stack import ownership
from scripts.stack.arguments import Layout, add_data

PATIENCE: Final = 60.0  # seconds; the supervisor itself kills what does not stop


def main(arguments: list[str]) -> int:
    """Stops what runs; says so when nothing does."""
    parser = argparse.ArgumentParser(prog="scripts/down", description="Stops what scripts/up started; the data stays.")
    add_data(parser)
    layout = Layout(parser.parse_args(arguments).data)
    try:
        pid = ownership.supervisor(layout)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            if not ownership.wait_for_end(pid, PATIENCE):
                sys.stderr.write(f"The supervisor (process {pid}) does not end; see {layout.logs / 'supervisor.log'}.\n")
                return 1
        left = ownership.clear_leftovers(layout)
    except PermissionError as error:
        sys.stderr.write(f"That belongs to another account ({error.strerror}); run as the account that started it.\n")
        return 1
    print("Stopped; the data stays in " + str(layout.data) if pid is not None or left else "Nothing is running.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
