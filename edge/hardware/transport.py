"""What a transport must be able to do: carry bytes to a device and back. Nothing here knows what the bytes mean."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol


class Unreachable(Exception):
    """The device could not be opened. Nothing was sent, so trying again is safe."""


class Disconnected(Exception):
    """The connection broke. What was sent may or may not have been processed."""


class Connection(Protocol):
    """An open device."""

    replies: bool
    """Whether the device can answer at all. Files cannot."""

    async def write(self, data: bytes) -> None:
        """Sends bytes and returns when the operating system has taken all of them, which says nothing about paper.

        Raises:
            Disconnected: the connection broke.
        """

    async def read(self) -> bytes:
        """Waits for bytes from the device. Empty when it will send no more.

        Raises:
            Disconnected: the connection broke.
        """

    async def finish(self) -> None:
        """Says that no more is sent. For devices that never reply, what was written is safe when this returns.

        Raises:
            Disconnected: the connection broke.
        """


class Transport(Protocol):
    """A way to devices. Importing one never touches the system; opening does."""

    scheme: ClassVar[str]
    """What addresses begin with, for example "tcp"."""

    def open(self, location: str) -> AbstractAsyncContextManager[Connection]:
        """Opens the device at the part of an address after "://" and closes it on exit.

        Raises:
            ValueError: not a location of this transport.
            Unreachable: nothing answers there.
        """
