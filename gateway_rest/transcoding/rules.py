"""Turns a FileDescriptorSet into bindings and refuses, at start and by name, every rule that could not be served as written.

Rules are read from the annotations of the methods only. The `http` section of a service config, which may override them, is not
read: the descriptor file is what the code was compiled with, and a second source could say something else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from gateway_rest.transcoding import templates
from gateway_rest.transcoding.trie import ANY_METHOD, Duplicate, Trie

SYSTEM_PARAMETERS = frozenset({"fields", "prettyPrint", "pretty_print", "$alt", "$ignoreUnknown"})
"""Query parameters that never name a field."""

_TOKEN = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")
"""What HTTP allows as a method, in capitals."""
_METHODS = {"get": "GET", "put": "PUT", "post": "POST", "delete": "DELETE", "patch": "PATCH"}
TEXT_MESSAGES = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Timestamp", "Duration", "FieldMask", "DoubleValue", "FloatValue", "Int64Value", "UInt64Value", "Int32Value"),
        *("UInt32Value", "BoolValue", "StringValue", "BytesValue"),
    )
)
"""Messages that have a one-word text and may stand in a path."""


class RuleError(Exception):
    """A google.api.http rule that cannot be served. The message names file, RPC and binding."""


@dataclass(frozen=True)
class Binding:
    """One way to reach one RPC by HTTP."""

    file: str
    rpc: MethodDescriptor
    index: int
    """0 for the main rule, then the additional bindings in order."""
    method: str
    """GET, POST, …, or `*` for any."""
    template: templates.Template
    body: str
    """Empty, `*`, or the request field that the HTTP body fills."""
    response_body: str
    """Empty, or the response field that becomes the HTTP body."""

    @property
    def input(self) -> Descriptor:
        """The request message."""
        return self.rpc.input_type

    @property
    def output(self) -> Descriptor:
        """The response message, or one of a stream."""
        return self.rpc.output_type

    @property
    def path(self) -> str:
        """What gRPC calls the method: `/package.Service/Method`."""
        service = self.rpc.containing_service
        assert service is not None
        return f"/{service.full_name}/{self.rpc.name}"

    def __str__(self) -> str:
        return f"{self.file}: {self.rpc.full_name}, binding {self.index} ({self.method} {self.template.text})"


@dataclass(frozen=True)
class Rules:
    """All bindings of a contract."""

    bindings: tuple[Binding, ...]
    trie: Trie[Binding]
    warnings: tuple[str, ...]
    """What works but may surprise, for the log at start."""


def load(
    files: FileDescriptorSet, pool: DescriptorPool, packages: Collection[str] = ("gipos.v1",), *, allow_delete_body: bool = False
) -> Rules:
    """The bindings of all RPCs with a rule in the packages, in order of declaration.

    Raises:
        RuleError: a rule cannot be served.
    """
    bindings: list[Binding] = []
    trie: Trie[Binding] = Trie()
    for file in files.file:
        if file.package not in packages:
            continue
        for service in file.service:
            for method in service.method:
                rpc = pool.FindMethodByName(f"{file.package}.{service.name}.{method.name}")
                for binding in _bindings(file.name, rpc):
                    _check(binding, allow_delete_body=allow_delete_body)
                    bindings.append(binding)
                    try:
                        trie.add(binding)
                    except Duplicate as duplicate:
                        raise RuleError(f"{binding}: the same paths and method belong to {duplicate.first}") from None
    return Rules(tuple(bindings), trie, tuple(_colon_warnings(bindings)))


def _bindings(file: str, rpc: MethodDescriptor) -> Iterator[Binding]:
    options: Any = rpc.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    main: http_pb2.HttpRule = options.Extensions[annotations_pb2.http]
    for index, rule in enumerate((main, *main.additional_bindings)):
        place = f"{file}: {rpc.full_name}, binding {index}"
        if index and rule.additional_bindings:
            raise RuleError(f"{place}: an additional binding has additional bindings of its own")
        method, text = _pattern(rule, place)
        try:
            template = templates.parse(text)
        except templates.TemplateError as error:
            raise RuleError(f'{place}: the path "{text}" {error}') from None
        yield Binding(file, rpc, index, method, template, rule.body, rule.response_body)


def _pattern(rule: http_pb2.HttpRule, place: str) -> tuple[str, str]:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise RuleError(f"{place}: has no HTTP method and path")
    if kind == "custom":
        method = rule.custom.kind.upper()
        if method == "HEAD" or not _TOKEN.fullmatch(method):
            raise RuleError(f'{place}: "{rule.custom.kind}" is no method to bind to; HEAD is served by GET')
        return method, rule.custom.path
    return _METHODS[kind], getattr(rule, kind)


def field_at(message: Descriptor, path: str) -> list[FieldDescriptor]:
    """The fields along a dotted path.

    Raises:
        LookupError: there is no such field, or it lies below a scalar, a list or a map. The message says which.
    """
    fields: list[FieldDescriptor] = []
    current: Descriptor | None = message
    for name in path.split("."):
        if current is None:
            raise LookupError(f'"{fields[-1].name}" has no fields')
        field = current.fields_by_name.get(name)
        if field is None:
            raise LookupError(f'{current.full_name} has no field "{name}"')
        if field.is_repeated:
            raise LookupError(f'"{name}" is a list or map')
        fields.append(field)
        current = field.message_type
    return fields


def _check(binding: Binding, *, allow_delete_body: bool) -> None:
    if binding.rpc.client_streaming:
        raise RuleError(f"{binding}: streams from the client have no HTTP form; offer a unary or server-streaming RPC")
    taken: dict[str, str] = {}
    for variable in binding.template.variables:
        try:
            fields = field_at(binding.input, variable.field)
        except LookupError as error:
            raise RuleError(f'{binding}: cannot bind "{variable.field}": {error.args[0]}') from None
        inner = fields[-1].message_type
        if inner is not None and inner.full_name not in TEXT_MESSAGES:
            raise RuleError(f'{binding}: cannot bind "{variable.field}": it is a message')
        for oneof, member in _choices(variable.field, fields):
            if taken.setdefault(oneof, member) != member:
                raise RuleError(f'{binding}: binds "{taken[oneof]}" and "{member}", of which a message has only one')
    _check_body(binding, allow_delete_body=allow_delete_body)
    if binding.response_body and binding.response_body not in binding.output.fields_by_name:
        raise RuleError(f'{binding}: {binding.output.full_name} has no field "{binding.response_body}" for response_body')
    if binding.rpc.server_streaming and "error" in binding.output.fields_by_name:
        raise RuleError(f'{binding}: an element of a stream must not have a field "error"; it ends streams that fail')
    if binding.body != "*":
        covered = {binding.body, *(variable.field for variable in binding.template.variables)}
        for field in binding.input.fields:
            if {field.name, field.json_name} & SYSTEM_PARAMETERS and field.name not in covered:
                raise RuleError(f'{binding}: the query parameter "{field.name}" is reserved')


def _choices(path: str, fields: list[FieldDescriptor]) -> Iterator[tuple[str, str]]:
    """The oneofs that a path decides, each by its own path, with the member it decides for."""
    steps = path.split(".")
    for index, field in enumerate(fields):
        if field.containing_oneof is not None:
            yield ".".join((*steps[:index], field.containing_oneof.name)), ".".join(steps[: index + 1])


def _check_body(binding: Binding, *, allow_delete_body: bool) -> None:
    if not binding.body:
        return
    if binding.method == "GET" or (binding.method == "DELETE" and not allow_delete_body):
        raise RuleError(f"{binding}: {binding.method} must not have a body")
    if binding.body == "*":
        return
    if binding.body not in binding.input.fields_by_name:
        raise RuleError(f'{binding}: body "{binding.body}" is not a field of {binding.input.full_name}, where it has to stand')
    if any(variable.field == binding.body for variable in binding.template.variables):
        raise RuleError(f'{binding}: "{binding.body}" is bound by the path and by the body')


def _colon_warnings(bindings: list[Binding]) -> Iterator[str]:
    """Pairs where a value that ends with `:verb` reaches the other RPC."""
    customs = [binding for binding in bindings if binding.template.verb]
    plains = [binding for binding in bindings if not binding.template.verb and binding.template.segments[-1:] in _OPEN_ENDS]
    for custom in customs:
        for plain in plains:
            if ANY_METHOD not in {custom.method, plain.method} and custom.method != plain.method:
                continue
            if _share_a_path(custom.template.segments, plain.template.segments):
                yield f'{plain}: a last segment that ends with ":{custom.template.verb}" reaches {custom.rpc.full_name} instead'


_OPEN_ENDS = {("*",), ("**",)}


def _share_a_path(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether some path fits both templates."""
    if not one or not other:
        return set(one or other) <= {"**"}
    if "**" in {one[0], other[0]}:
        return _share_a_path(one[1:], other) or _share_a_path(one, other[1:])
    return (one[0] == other[0] or "*" in {one[0], other[0]}) and _share_a_path(one[1:], other[1:])
