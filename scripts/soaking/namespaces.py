"""Network namespaces that last as long as their holder, cables between them, and sockets opened inside of them.

Nothing has a name on the machine: a soak runs in a mount and a network namespace of its own, and all is gone with its process.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

INSIDE = "GIPOS_SOAK_INSIDE"
CLOUD = "10.77.0.1"
_CLONE_NEWNET = 0x40000000
_TOOLS = ("ip", "unshare", "nsenter", "mount")
_libc = ctypes.CDLL(None, use_errno=True)


class NotPermitted(Exception):
    """This machine allows no namespaces; the text says what is missing."""


def _flags() -> list[str]:
    flags = ["--mount", "--net", "--propagation", "private"]
    # Without being root: root's rights over namespaces of one's own, under one's own name (PostgreSQL refuses to be run by root).
    return flags if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps", *flags]


def problem() -> str:
    """Why namespaces cannot be used here; empty when they can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"The fault suite needs {', '.join(missing)} (Debian: iproute2, util-linux, mount)."
    script = (
        "ip link set lo up && ip link add gipos-a type veth peer name gipos-b && mount -t tmpfs -o size=1M none /mnt"
        " && exec unshare --net ip link set lo up"
    )
    tried = subprocess.run(["unshare", *_flags(), "sh", "-c", script], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return ""
    said = " ".join(tried.stderr.split()) or f"exit code {tried.returncode}"
    return f"The fault suite needs network namespaces, and this machine does not permit them ({said}). Run it as root."


def enter() -> None:
    """Goes on inside namespaces of our own; replaces the process.

    Raises:
        NotPermitted: it cannot.
    """
    if os.environ.get(INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    if why := problem():
        raise NotPermitted(why)
    python = [sys.executable, "-P", "-m", "scripts.soaking", *sys.argv[1:]]
    os.execvpe("unshare", ["unshare", *_flags(), "--", *python], {**os.environ, INSIDE: "1"})  # noqa: S606 (no shell wanted)


class Namespace:
    """A network namespace, held by a program that ends when its standard input does: that is, with us at the latest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat >/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise NotPermitted(f"The network namespace of {name} could not be made.")
        self._handle = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def pid(self) -> int:
        """Of the holder."""
        return self._holder.pid

    def command(self, *words: str) -> list[str]:
        """A command that runs inside."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *words]

    def ip(self, *words: str) -> None:
        """Runs `ip` inside."""
        subprocess.run(self.command("ip", *words), check=True, capture_output=True)

    def socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """A socket inside, for aiohttp: a socket belongs to the namespace its thread is in when it is made."""
        family, kind, protocol, _, _ = info
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._handle)
            try:
                return socket.socket(family, kind, protocol)
            finally:
                _enter(home)
        finally:
            os.close(home)

    def close(self) -> None:
        """Lets the namespace go."""
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait()
        os.close(self._handle)


def _enter(handle: int) -> None:
    if _libc.setns(handle, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass
class Cable:
    """Connects one tablet with the cloud, and can be cut in either direction without anybody being told."""

    cloud: Namespace
    tablet: Namespace
    number: int
    is_spare: bool = False
    """The tablet has another one, which it uses at first."""
    cut: set[str] = field(default_factory=set)
    """Of "up" and "down"."""

    def __post_init__(self) -> None:
        here, there = f"c{self.number}", f"t{self.number}"
        subprocess.run(
            [
                *("ip", "link", "add", here, "netns", str(self.cloud.pid), "type", "veth"),
                *("peer", "name", there, "netns", str(self.tablet.pid)),
            ],
            check=True,
            capture_output=True,
        )
        self.cloud.ip("addr", "add", f"10.77.{self.number}.1/24", "dev", here)
        self.cloud.ip("link", "set", here, "up")
        self.tablet.ip("addr", "add", f"10.77.{self.number}.2/24", "dev", there)
        self.tablet.ip("link", "set", there, "up")
        if not self.is_spare:
            self.use()

    def join(self, other: Cable) -> None:
        """Either end can answer what the tablet says with the other's address: that a connection is not known there."""
        for one, two in ((self, other), (other, self)):
            one.cloud.ip("route", "add", f"10.77.{two.number}.2", "via", f"10.77.{one.number}.2")

    def use(self) -> None:
        """From now on the tablet finds the cloud at this cable's end."""
        self.tablet.ip("route", "replace", CLOUD, "via", f"10.77.{self.number}.1")

    def sever(self, *directions: str) -> None:
        """From now on nothing passes in these directions: packets vanish, and no end is told."""
        for direction in directions:
            if direction == "up":
                self.tablet.ip("route", "replace", "blackhole", CLOUD)
            else:
                self.cloud.ip("route", "replace", "blackhole", f"10.77.{self.number}.2")
            self.cut.add(direction)

    def mend(self, *directions: str) -> None:
        """Everything passes again."""
        for direction in self.cut.intersection(directions):
            if direction == "up":
                self.use()
            else:
                self.cloud.ip("route", "del", "blackhole", f"10.77.{self.number}.2")
            self.cut.discard(direction)


def mount_memory(folder: Path, megabytes: int) -> None:
    """Puts a file system of a fixed size, in memory, where the folder is."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}M,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "gipos-soak", str(folder)], check=True, capture_output=True)


def unmount(folder: Path) -> None:
    """Takes it away again, so that the folder can be removed."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
