"""`scripts/demo`: tells the story on a running platform, and starts one in the background if none runs."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from pathlib import Path

from scripts.story.chapters import Story
from scripts.story.world import StoryFailed, World

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """The exit code: 0 when everything was as it should be, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Watch one sale travel: created, scanned, printed, synced, announced, with a till and the cloud dying on the "
        "way. Uses the platform that scripts/up started; starts one for the time of the story if none runs.",
    )
    parser.add_argument("--data", type=Path, default=ROOT / "var", metavar="DIR", help="the platform's folder (default: var/)")
    parser.add_argument("--port-base", metavar="N", help="first port, where it starts a platform itself (default 8080)")
    arguments = parser.parse_args()
    up = arguments.data / "up.json"
    started = not up.exists()
    if started:
        command = [str(ROOT / "scripts" / "up"), "--detach", "--data", str(arguments.data)]
        command += ["--port-base", arguments.port_base] if arguments.port_base else []
        if code := subprocess.run(command, check=False).returncode:
            return code
    try:
        asyncio.run(_tell(up))
    except StoryFailed as error:
        sys.stderr.write(f"The story went wrong: {error}\nThe programs' logs are in {arguments.data / 'logs'}.\n")
        return 1
    finally:
        if started:
            subprocess.run([str(ROOT / "scripts" / "down"), "--data", str(arguments.data)], check=False)
    return 0


async def _tell(up: Path) -> None:
    async with World.open(up) as world:
        await Story(world, lambda line: print(line, flush=True)).tell()
    print("The end: nothing lost, nothing doubled.")


if __name__ == "__main__":
    sys.exit(main())
