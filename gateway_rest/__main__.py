"""`python -m gateway_rest`: serves REST for a cloud at an address, until it is told to stop."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys

import structlog
import uvicorn
from pydantic import ValidationError

from gateway_rest import contract, logs
from gateway_rest.app import Gateway
from gateway_rest.channel import GrpcChannel
from gateway_rest.settings import Settings

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


def configured(gateway: Gateway, *, graceful_seconds: int) -> uvicorn.Config:
    """How uvicorn serves the gateway; used by tests as well, so that they meet the same server."""
    return uvicorn.Config(
        gateway,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=64 * 1024,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever called is told to the cloud by the gateway itself, which appends to the chain instead of believing it.
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


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway_rest", description="REST for the GiPos cloud.")
    parser.add_argument("--host", help="address to listen on (GIPOS_GATEWAY_HOST, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (GIPOS_GATEWAY_PORT, 8080)")
    parser.add_argument("--cloud", metavar="HOST:PORT", help="gRPC address of the cloud (GIPOS_CLOUD_ADDRESS, 127.0.0.1:8081)")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        settings = Settings(**given)
        if not settings.cloud.rpartition(":")[2].isdecimal():
            return _complain(f'The address of the cloud must be host:port, not "{settings.cloud}".')
        listener = bind(settings.host, settings.port)
    except ValidationError as error:
        first = error.errors()[0]
        return _complain(f"The setting {first['loc'][0]} is not valid: {first['msg']}.")
    except OSError as error:
        wanted = f"{given.get('host', settings.host)}:{settings.port}"
        return _complain(f"Cannot listen on {wanted}: {error.strerror}. Stop what uses it, or choose another with --port.")
    try:
        gateway = Gateway(contract.installed(), lambda: GrpcChannel(settings.cloud))
    except contract.ContractMissing as error:
        return _complain(str(error))
    logs.configure()
    host, port = listener.getsockname()[:2]
    logger.info("gateway_started", host=host, port=port, cloud=settings.cloud)
    # uvicorn repeats the signal after it has stopped; by then, and before it listens to it, the answer is a plain exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(configured(gateway, graceful_seconds=settings.graceful_seconds), gateway)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0


def _complain(sentence: str) -> int:
    sys.stderr.write(sentence + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
