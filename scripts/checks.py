"""`scripts/test` after the environment is there: every check, then every test; stops at the first failure and names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PROTOS: Final = ROOT / "protos"
RELEASED: Final = PROTOS / "released" / "api.binpb"
TOOLS: Final = Path(sys.executable).parent
PROGRAMS: Final = {"chromium": "chromium", "strace": "strace", "ip": "iproute2"}
"""Programs that tests use, and Debian's packages that bring them: a browser for pages, a killer at storage calls, networks."""


@dataclass(frozen=True)
class Check:
    """A check that prints nothing worth reading unless it fails."""

    name: str
    command: tuple[str, ...]
    folder: Path = ROOT


CHECKS: Final = (
    Check("ruff (lint)", ("ruff", "check", "--quiet")),
    Check("ruff (format)", ("ruff", "format", "--check", "--quiet")),
    Check("mypy (strict)", ("mypy",)),
    Check("import contracts", ("lint-imports", "--no-cache")),
    Check("buf lint", ("buf", "lint", "gipos/api.binpb", "--path", "gipos"), PROTOS),
    # A release puts a copy of its descriptor file there.
    Check("buf breaking", ("buf", "breaking", "gipos/api.binpb", "--against", str(RELEASED), "--path", "gipos"), PROTOS),
)


def main(arguments: list[str]) -> int:
    """Runs everything, or only pytest when it is given arguments; returns the exit code."""
    if arguments:
        return _pytest(arguments)
    for check in CHECKS:
        if "breaking" in check.command and not RELEASED.exists():
            print(f"  --   {check.name}: no release yet, nothing to compare with", flush=True)
        elif not _passes(check):
            return 1
    _provide_programs()
    print("       pytest", flush=True)
    # Two workers for two cores; a file stays on one worker because its tests share fixtures. In the order they are found: by
    # default files with few tests come last, which are those that take minutes, and one worker would wait for them.
    return _pytest(["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"])


def _provide_programs() -> None:
    """Where it may, installs what some tests use from outside; where it may not, they are skipped and say so."""
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if not missing or os.geteuid() != 0 or "CI" not in os.environ or not shutil.which("apt-get"):
        return
    names = ", ".join(missing)
    print(f"       installing {names} for the tests", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run(
            ["apt-get", *arguments], env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode != 0:
            print(f"  --   {names} cannot be installed here: {done.stdout.strip().splitlines()[-1:]}", flush=True)
            return


def _passes(check: Check) -> bool:
    started = time.monotonic()
    program, *options = check.command
    done = subprocess.run(
        [TOOLS / program, *options], cwd=check.folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    took = f"({time.monotonic() - started:.1f} s)"
    if done.returncode == 0:
        print(f"  ok   {check.name} {took}", flush=True)
        return True
    print(f"{done.stdout.rstrip()}\n  FAILED: {check.name} {took}; again alone: {' '.join(check.command)}", flush=True)
    return False


def _pytest(arguments: list[str]) -> int:
    # Its output is the last thing one reads: pytest's own closing line says how it went.
    return subprocess.run([sys.executable, "-P", "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
