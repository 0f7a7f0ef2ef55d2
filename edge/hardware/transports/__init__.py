"""Every way to reach a device. One more is one file and one word in the tuple."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from edge.hardware.transport import Connection, Transport
from edge.hardware.transports.file import FileTransport
from edge.hardware.transports.tcp import TcpTransport

TRANSPORTS: tuple[Transport, ...] = (TcpTransport(), FileTransport())


def open_device(address: str) -> AbstractAsyncContextManager[Connection]:
    """Opens a device by address, for example "tcp://127.0.0.1:9100" or "file:///var/receipts".

    Raises:
        ValueError: no transport has this scheme.
    """
    scheme, separator, location = address.partition("://")
    for transport in TRANSPORTS:
        if separator and transport.scheme == scheme:
            return transport.open(location)
    known = ", ".join(f"{transport.scheme}://" for transport in TRANSPORTS)
    raise ValueError(f"{address!r} is not a device address. Begin it with one of {known}.")
