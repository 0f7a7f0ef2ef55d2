"""Envoy's gRPC-JSON transcoder in front of a cloud: its configuration, and where its program is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

import gipos


def descriptor_file() -> Path:
    """The descriptor file that belongs to the generated code."""
    return next(Path(folder) / "api.binpb" for folder in gipos.__path__ if (Path(folder) / "api.binpb").is_file())


def configuration(port: int, cloud_port: int) -> str:
    """What to give to `envoy --config-yaml` (JSON is YAML): every public service, transcoded, from one port to another."""
    files = FileDescriptorSet.FromString(descriptor_file().read_bytes())
    services = [f"{file.package}.{service.name}" for file in files.file if file.package == "gipos.v1" for service in file.service]
    transcoder: dict[str, Any] = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(descriptor_file()),
        "services": services,
        "convert_grpc_status": True,
        "print_options": {"always_print_primitive_fields": True, "preserve_proto_field_names": True},
    }
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "cloud", "timeout": "15s"}}
    manager: dict[str, Any] = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "rest",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    static = {
        "listeners": [
            {
                "name": "rest",
                "address": _address(port),
                "filter_chains": [
                    {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
                ],
            }
        ],
        "clusters": [
            {
                "name": "cloud",
                "type": "STATIC",
                "connect_timeout": "2s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
                "load_assignment": {
                    "cluster_name": "cloud",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(cloud_port)}}]}],
                },
            }
        ],
    }
    return json.dumps({"static_resources": static})


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
