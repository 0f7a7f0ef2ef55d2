"""JSON to messages: one Python function per message type and one per field, written as source text once and compiled.

The good case pays for nothing but its own fields: paths are tuples that become text only when something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from kernel.protojson.enums import EnumNames
from kernel.protojson.findings import DEPTH, Findings, Path, kind_of, shown
from kernel.protojson.scalars import enum_reader, float_reader, read_bool, read_bytes, read_decimal, read_string
from kernel.protojson.schemas import (
    assignment_text,
    enum_of,
    is_decimal,
    is_number_asked_for,
    is_real_oneof,
    map_entry,
    message_of,
    most_items,
    own_text,
)
from kernel.protojson.wellknown import ANY, FILLERS, INTEGER_READERS

Filler = Callable[[Any, Any, Path, Findings], None]

_NULL_VALUE = "google.protobuf.NullValue"
_NULLABLE = {"google.protobuf.Value", _NULL_VALUE}


def _read_null(value: Any, path: Path, found: Findings) -> int | None:
    if value is None or value == "NULL_VALUE":
        return 0
    found.wrong_type(path, "null", value)
    return None


_namespace: dict[str, Any] = {
    "read_string": read_string,
    "read_bool": read_bool,
    "read_bytes": read_bytes,
    "read_decimal": read_decimal,
    "read_null": _read_null,
    "read_float": float_reader(single=True),
    "read_double": float_reader(single=False),
    **{f"read_int{kind}": reader for kind, reader in INTEGER_READERS.items()},
    "DEPTH": DEPTH,
}
_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_names: dict[Descriptor, str] = {}
_tables: dict[Descriptor, dict[str, Filler]] = {}
_enum_readers: dict[EnumDescriptor, str] = {}


def filler(descriptor: Descriptor) -> Filler:
    """The compiled function that fills a message of this type from a JSON value."""
    result: Filler = _namespace[_name(descriptor)]
    return result


def field_filler(field: FieldDescriptor) -> Filler:
    """The compiled function that sets one field of a message from a JSON value."""
    assert field.containing_type is not None
    name = _name(field.containing_type)
    result: Filler = _namespace[f"{name}_{field.name}"]
    return result


def _name(descriptor: Descriptor) -> str:
    name = _names.get(descriptor)
    if name is None:
        name = _names[descriptor] = f"fill_{len(_names)}_{descriptor.name}"
        if descriptor.full_name in FILLERS:
            _namespace[name] = FILLERS[descriptor.full_name]
        elif descriptor.full_name == ANY:
            _namespace[name] = _any_in
        else:
            _compile_message(descriptor, name)
    return name


def _compile_message(descriptor: Descriptor, name: str) -> None:
    table: dict[str, Filler] = {}
    spellings = {field.json_name: field.name for field in descriptor.fields if field.json_name != field.name}
    _namespace[f"{name}_table"] = table
    _namespace[f"{name}_other"] = _other_spelling(table, spellings)
    _namespace[f"{name}_mismatch"] = _mismatch(descriptor)
    lines: list[str] = []
    for field in descriptor.fields:
        lines += _field_source(field, f"{name}_{field.name}")
    nullable = [field.name for field in descriptor.fields if _takes_null(field)]
    taken = f"v is not None or h.__name__ in {name}_nullable" if nullable else "v is not None"
    recursive = _holds_itself(descriptor)
    lines += [
        f"def {name}(m, o, p, c):",
        f" if type(o) is not dict: {name}_mismatch(o, p, c); return",
        " c.keys += len(o)",
        *([" c.depth += 1", " if c.depth > DEPTH: c.too_deep(p); c.depth -= 1; return"] if recursive else []),
        " for k, v in o.items():",
        f"  h = {name}_table.get(k) or {name}_other(k, o, p, c)",
        f"  if h is not None and ({taken}): h(m, v, p, c)",
        *(
            f" if o.get({field.name!r}, o.get({field.json_name!r})) is None:"
            f" c.add((p, {field.name!r}), 'REQUIRED', 'is required')"
            for field in descriptor.fields
            if is_number_asked_for(field)
        ),
        *([" c.depth -= 1"] if recursive else []),
    ]
    exec(compile("\n".join(lines), f"<protojson decoder of {descriptor.full_name}>", "exec"), _namespace)  # noqa: S102 (source made here from descriptors only)
    _namespace[f"{name}_nullable"] = {f"{name}_{field}" for field in nullable}
    table.update({field.name: _namespace[f"{name}_{field.name}"] for field in descriptor.fields})


def _takes_null(field: FieldDescriptor) -> bool:
    kind = field.message_type or field.enum_type
    return kind is not None and kind.full_name in _NULLABLE and not field.is_repeated


def _holds_itself(descriptor: Descriptor) -> bool:
    seen: set[Descriptor] = set()
    waiting = [descriptor]
    while waiting:
        for field in waiting.pop().fields:
            inner = field.message_type
            if inner is None or inner in seen or inner.full_name in FILLERS:
                continue
            if inner == descriptor:
                return True
            seen.add(inner)
            waiting.append(inner)
    return False


def _other_spelling(table: dict[str, Filler], spellings: dict[str, str]) -> Callable[..., Filler | None]:
    def find(key: str, siblings: dict[str, Any], path: Path, found: Findings) -> Filler | None:
        name = spellings.get(key)
        if name is None:
            found.unknown(path, key, table)
            return None
        if name in siblings:
            found.add((path, key), "DUPLICATE_FIELD", f'is given twice, as "{name}" and as "{key}"')
            return None
        return table[name]

    return find


def _mismatch(descriptor: Descriptor) -> Callable[[Any, Path, Findings], None]:
    is_money = descriptor.full_name.endswith(".Money")

    def tell(value: Any, path: Path, found: Findings) -> None:
        if is_money and not isinstance(value, (bool, list, type(None))):
            digits = str(value) if isinstance(value, (int, str)) and str(value).isdecimal() and len(str(value)) < 16 else "15000"
            expected = f'an object such as {{"amount": {digits}, "currency": "IDR"}}'
        else:
            expected = "an object"
        found.add(path, "WRONG_TYPE", f"must be {expected}, not {kind_of(value)}")

    return tell


def _field_source(field: FieldDescriptor, name: str) -> list[str]:
    """The function `name(m, v, p, c)` that sets the field of `m` from the JSON value `v`, `p` being the path of `m`."""
    key, own = repr(field.name), own_text(field)
    lines = [f"def {name}(m, v, p, c):"]
    if is_real_oneof(field) and field.containing_oneof is not None:
        refusal = f"c.add((p, {key}), 'DUPLICATE_FIELD', 'excludes ' + other + '; give one of the two'); return"
        lines += [
            f" other = m.WhichOneof({field.containing_oneof.name!r})",
            f" if other is not None and other != {key}: {refusal}",
        ]
    entry = map_entry(field)
    if entry is not None:
        return lines + _map_source(entry, own, key)
    if field.is_repeated:
        return lines + _list_source(field, own, key)
    if field.message_type is not None:
        return [*lines, f" s = {own}", " s.SetInParent()", f" {_name(message_of(field))}(s, v, (p, {key}), c)"]
    return [
        *lines,
        *_fast_scalar(field),
        f" n = {_reader(field)}(v, (p, {key}), c)",
        f" if n is not None: {assignment_text(field, 'n')}",
    ]


def _fast_scalar(field: FieldDescriptor) -> list[str]:
    """The good case of the common types, without a call or a path."""
    if field.type == FieldDescriptor.TYPE_STRING and not is_decimal(field):
        return [
            " if type(v) is str and '\\0' not in v:",
            f"  try: {assignment_text(field, 'v')}; return",
            "  except UnicodeEncodeError: pass",
        ]
    if field.cpp_type in _BOUNDS:
        low, high = _BOUNDS[field.cpp_type]
        return [f" if type(v) is int and {low} <= v <= {high}: {assignment_text(field, 'v')}; return"]
    return []


def _list_source(field: FieldDescriptor, own: str, key: str) -> list[str]:
    lines = [f" if type(v) is not list: c.wrong_type((p, {key}), 'a list', v); return"]
    if most := most_items(field):
        # Before a message is made of each: a body of a million empty ones would keep everybody else waiting for seconds.
        lines.append(f" if len(v) > {most}: c.too_many((p, {key}), {most}, len(v)); return")
    if field.message_type is not None:
        call = f"{_name(message_of(field))}(f.add(), x, (p, {key}, i), c)"
        if message_of(field).full_name not in _NULLABLE:
            call = f"c.wrong_type((p, {key}, i), 'an object', x) if x is None else {call}"
        return [*lines, f" f = {own}", " for i, x in enumerate(v):", f"  {call}"]
    return [
        *lines,
        f" r = [{_reader(field)}(x, (p, {key}, i), c) for i, x in enumerate(v)]",
        f" {own}.extend([x for x in r if x is not None])",
    ]


def _map_source(entry: Descriptor, own: str, key: str) -> list[str]:
    key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
    lines = [
        f" if type(v) is not dict: c.wrong_type((p, {key}), 'an object', v); return",
        " c.keys += len(v)",
        f" f = {own}",
        " for k, x in v.items():",
        f"  q = (p, {key}, k)",
    ]
    if key_field.type == FieldDescriptor.TYPE_BOOL:
        lines.append("  k = {'true': True, 'false': False}.get(k, k)")
        lines.append("  k = read_bool(k, q, c)")
    else:
        lines.append(f"  k = {_reader(key_field)}(k, q, c)")
    lines.append("  if k is None: continue")
    if not _takes_null(value_field):
        lines.append("  if x is None: c.add(q, 'WRONG_TYPE', 'must not be null'); continue")
    if value_field.message_type is not None:
        return [*lines, f"  {_name(message_of(value_field))}(f[k], x, q, c)"]
    return [*lines, f"  x = {_reader(value_field)}(x, q, c)", "  if x is not None: f[k] = x"]


def _reader(field: FieldDescriptor) -> str:
    """The name of the function that reads one value of the field's type."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return "read_decimal" if is_decimal(field) else "read_string"
    if field.cpp_type in _BOUNDS:
        return f"read_int{field.cpp_type}"
    if field.type == FieldDescriptor.TYPE_ENUM:
        enum = enum_of(field)
        if enum.full_name == _NULL_VALUE:
            return "read_null"
        name = _enum_readers.get(enum)
        if name is None:
            name = _enum_readers[enum] = f"read_enum_{len(_enum_readers)}"
            _namespace[name] = enum_reader(EnumNames(enum))
        return name
    return {
        FieldDescriptor.TYPE_BOOL: "read_bool",
        FieldDescriptor.TYPE_BYTES: "read_bytes",
        FieldDescriptor.TYPE_FLOAT: "read_float",
        FieldDescriptor.TYPE_DOUBLE: "read_double",
    }[field.type]


def _any_in(message: Any, value: Any, path: Path, found: Findings) -> None:
    if type(value) is not dict:
        found.wrong_type(path, "an object", value)
        return
    if not value:
        return
    url = value.get("@type")
    if type(url) is not str or not url:
        found.add((path, "@type"), "REQUIRED", "must name the type of the object")
        return
    if read_string(url, (path, "@type"), found) is None:
        return
    type_name = url.rpartition("/")[2]
    try:
        descriptor = message.DESCRIPTOR.file.pool.FindMessageTypeByName(type_name)
    except KeyError:
        found.add((path, "@type"), "UNKNOWN_TYPE", f'there is no type "{shown(type_name)}"')
        return
    inner = message_factory.GetMessageClass(descriptor)()
    rest = {key: item for key, item in value.items() if key != "@type"}
    found.keys += 1
    found.depth += 1
    if found.depth > DEPTH:
        found.too_deep(path)
    elif type_name in FILLERS or type_name == ANY:
        found.keys += len(rest)
        for key in rest.keys() - {"value"}:
            found.unknown(path, key, ["value"])
        if rest.get("value") is not None or type_name in _NULLABLE:
            filler(descriptor)(inner, rest.get("value"), (path, "value"), found)
    else:
        filler(descriptor)(inner, rest, path, found)
    found.depth -= 1
    message.type_url = url
    message.value = inner.SerializeToString()
