"""`python -m edge`: runs the daemon of one till. Refuses to start with one clear sentence, or runs."""

from __future__ import annotations

import os
import sys

import uvloop

from edge import daemon, settings
from edge.storage.database import StorageUnusable


def main() -> int:
    """Reads the settings and runs until told to stop; the exit code."""
    try:
        given = settings.read(sys.argv[1:], os.environ)
        daemon.configure_logging()
        uvloop.run(daemon.run(given))
    except (settings.SettingsInvalid, daemon.CannotStart, StorageUnusable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
