"""Who holds a port. Asks the kernel's tables; changes nothing."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Final

from scripts.stack.arguments import HOST, Layout

LISTENING: Final = "0A"  # TCP_LISTEN in /proc/net/tcp, proc(5)


def needed(layout: Layout, tills: int) -> list[int]:
    """Every port the stack listens on."""
    base = layout.port_base
    numbers = range(1, tills + 1)
    rows = (layout.till_port, layout.printer_port, layout.control_port)
    return [*range(base, base + 5), *(row(number) for row in rows for number in numbers)]


def complaint(ports: list[int], port_base: int) -> str | None:
    """One sentence about the first port that cannot be used, None when all are free."""
    for port in ports:
        with socket.socket() as probe:
            # As servers do: a connection that lingers after a stop does not make the port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                probe.listen()
            except PermissionError:
                return f"Port {port} is reserved for root; choose ports above 1023 with --port-base."
            except OSError:
                other = port_base + 1000 if port_base < 60_000 else 8080
                return f"Port {port} is taken{_by_whom(port)}; stop that, or move all ports with --port-base {other}."
    return None


def _by_whom(port: int) -> str:
    """The words " by process 1234 (name)", or none where the kernel does not tell us."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(handle.readlink()) in inodes for handle in (process / "fd").iterdir()):
                return f" by process {process.name} ({(process / 'comm').read_text('utf-8').strip()})"
    return ""
