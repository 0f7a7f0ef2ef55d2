"""One binding, ready to serve: its request plan, its response plan and its callable, all made at start."""

from __future__ import annotations

from google.protobuf import message_factory

from gateway_rest.channel import Channel, StreamCall, UnaryCall
from gateway_rest.limits import Limits
from gateway_rest.transcoding import retirements
from gateway_rest.transcoding.requests import RequestPlan
from gateway_rest.transcoding.responses import ResponsePlan
from gateway_rest.transcoding.rules import Binding, Rules


class Endpoint:
    """Everything needed to serve one binding."""

    def __init__(self, binding: Binding, rules: Rules, channel: Channel, limits: Limits) -> None:
        self.binding = binding
        self.route = binding.template.text
        self.request = RequestPlan(binding)
        self.response = ResponsePlan(binding, rules)
        self.headers = retirements.headers(binding)
        """Of every answer."""
        self.body_field = binding.body if binding.body not in {"", "*"} else ""
        self.body_bytes = limits.body_bytes_of.get(binding.rpc.full_name, limits.body_bytes)
        self.is_stream: bool = binding.rpc.server_streaming
        self.is_endless = self.is_stream and binding.rpc.name.startswith("Watch")
        """Whether the stream goes on until somebody ends it; by the name of the RPC, as our contract names such streams."""
        self.has_cursor = "cursor" in binding.output.fields_by_name
        request_class = message_factory.GetMessageClass(binding.input)
        self.unary: UnaryCall | None = None
        self.stream: StreamCall | None = None
        if self.is_stream:
            self.stream = channel.stream(binding.path, request_class, self.response.message_class)
        else:
            self.unary = channel.unary(binding.path, request_class, self.response.message_class)
