"""`python -m gateway_rest`: serves REST for a cloud at an address, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any

import structlog
import uvicorn
from pydantic import ValidationError

from gateway_rest import contract, logs
from gateway_rest.app import Gateway
from gateway_rest.channel import Channel, GrpcChannel
from gateway_rest.connections import limited
from gateway_rest.dashboards.lines import LineProtocol
from gateway_rest.limits import Limits
from gateway_rest.settings import Settings
from kernel import memory

logger = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn, except that live streams are told to end before it waits for connections to close."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains, then stops."""
        self._gateway.drain()
        await super().shutdown(sockets)


class Alone(Server):
    """A server that has its process to itself, so that the memory of the process is its business."""

    _next: asyncio.TimerHandle | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts; what is loaded by then stays."""
        await super().startup(sockets)
        memory.settle()
        self._tidy()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops."""
        if self._next is not None:
            self._next.cancel()
        await super().shutdown(sockets)

    def _tidy(self) -> None:
        memory.tidy()
        self._next = asyncio.get_running_loop().call_later(memory.TIDY_SECONDS, self._tidy)


def configured(
    gateway: Gateway, *, graceful_seconds: int, tls_cert: str = "", tls_key: str = "", ping_seconds: float = 20
) -> uvicorn.Config:
    """How uvicorn serves the gateway; used by tests as well, so that they meet the same server."""
    return uvicorn.Config(
        gateway,
        loop="uvloop",
        http=limited(gateway.limits),
        ws=LineProtocol,
        ws_max_size=64 * 1024,
        ws_ping_interval=ping_seconds,
        ws_ping_timeout=ping_seconds,
        ssl_certfile=tls_cert or None,
        ssl_keyfile=tls_key or None,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Which proxies are believed is decided by the gateway itself (see forwarding).
        proxy_headers=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=graceful_seconds,
        backlog=2048,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address is taken or not ours.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


class Unstartable(Exception):
    """It cannot start; the text is for whoever starts it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every program with a gateway in it has."""
    parser.add_argument("--host", help="address to listen on (GIPOS_GATEWAY_HOST, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (GIPOS_GATEWAY_PORT, 8080)")
    parser.add_argument("--tls-cert", metavar="FILE", help="PEM file with certificate and chain (GIPOS_GATEWAY_TLS_CERT)")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM file with the private key (GIPOS_GATEWAY_TLS_KEY)")
    parser.add_argument(
        "--trusted-proxies",
        metavar="NETWORKS",
        help="addresses or networks whose forwarding headers are believed, with commas (GIPOS_GATEWAY_TRUSTED_PROXIES)",
    )


def prepared(given: Mapping[str, Any]) -> tuple[Settings, socket.socket]:
    """The settings with these options, and where it listens.

    Raises:
        Unstartable: a setting is not valid, a file cannot be used, or the address is taken.
    """
    try:
        settings = Settings(**given)
        if not settings.cloud.rpartition(":")[2].isdecimal():
            raise Unstartable(f'The address of the cloud must be host:port, not "{settings.cloud}".')
        if settings.tls_cert and (problem := _unusable(settings.tls_cert, settings.tls_key)):
            raise Unstartable(problem)
        return settings, bind(settings.host, settings.port)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"setting {first['loc'][0]}" if first["loc"] else "combination of settings"
        raise Unstartable(f"The {name} is not valid: {first['msg'].removeprefix('Value error, ')}.") from error
    except OSError as error:
        wanted = f"{given.get('host', settings.host)}:{settings.port}"
        sentence = f"Cannot listen on {wanted}: {error.strerror}. Stop what uses it, or choose another with --port."
        raise Unstartable(sentence) from error


def made(settings: Settings, connect: Callable[[], Channel]) -> tuple[Gateway, uvicorn.Config]:
    """The gateway of these settings on a channel, and how it is served.

    Raises:
        Unstartable: the contract was not compiled.
    """
    try:
        installed = contract.installed()
    except contract.ContractMissing as error:
        raise Unstartable(str(error)) from error
    gateway = Gateway(installed, connect, limits=Limits(body_bytes=settings.body_limit), proxies=settings.proxies)
    config = configured(gateway, graceful_seconds=settings.graceful_seconds, tls_cert=settings.tls_cert, tls_key=settings.tls_key)
    return gateway, config


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway_rest", description="REST for the GiPos cloud.")
    add_options(parser)
    parser.add_argument("--cloud", metavar="HOST:PORT", help="gRPC address of the cloud (GIPOS_CLOUD_ADDRESS, 127.0.0.1:8081)")
    try:
        settings, listener = prepared(
            {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
        )
        gateway, config = made(settings, lambda: GrpcChannel(settings.cloud))
    except Unstartable as error:
        return _complain(str(error))
    logs.configure()
    host, port = listener.getsockname()[:2]
    logger.info("gateway_started", host=host, port=port, cloud=settings.cloud)
    # uvicorn repeats the signal after it has stopped; by then, and before it listens to it, the answer is a plain exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Alone(config, gateway)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0


def _unusable(certificate: str, key: str) -> str:
    """What is wrong with the TLS files; empty when nothing is."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, "")
    except ssl.SSLError as error:
        return f"The certificate {certificate} and the key {key} cannot be used together: {error.reason or error}."
    except OSError as error:
        return f"Cannot read the certificate {certificate} or the key {key}: {error.strerror}."
    return ""


def _complain(sentence: str) -> int:
    sys.stderr.write(sentence + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
