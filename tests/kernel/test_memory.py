"""What a burst of large bodies took is given back, although small things were made meanwhile and stay."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

BURSTS = """
import sys
from kernel import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "settled":
    memory.settle()
kept = []
before = resident()
for _ in range(3):
    bodies = []
    for _ in range(30):
        bodies.append(b"x" * 2_000_000)
        kept.append(b"x" * 100_000)  # too large for holes that are there: it lies between the bodies, if they are in the heap
    bodies.clear()
print(resident() - before - sum(map(len, kept)), flush=True)
bodies = []
for _ in range(2_000):
    bodies.append(b"x" * 20_000)
    kept.append(b"x" * 2_000)
bodies.clear()
memory.tidy()
print(resident() - before - sum(map(len, kept)))
"""


def grown(how: str) -> list[int]:
    """By how many bytes more than it keeps a process grows: with bursts of large blocks; then with small ones and a tidying."""
    done = subprocess.run([sys.executable, "-c", BURSTS, how], check=True, capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's way of keeping memory; others have their own")
def test_what_bursts_took_goes_back_to_the_system() -> None:
    large, small = grown("settled")
    assert large < 10_000_000
    assert small < 15_000_000
    assert grown("as it is")[0] > 2 * max(large, 5_000_000), "without settling it stays, or this test proves nothing"
