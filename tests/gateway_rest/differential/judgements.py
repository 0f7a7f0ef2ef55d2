"""Rules that tell, from what a request said, whether a point is a known difference. Each as narrow as what it describes."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import FieldDescriptor

from .outcomes import Case, Kind, Pairs, Point, snake

VERBS = ("peek", "archive")
"""The verbs of echo.proto."""

_FREE = {"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"}
_BOOLEANS = {"true", "false", "t", "f", "yes", "no", "y", "n", "1", "0"}
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LAX_NUMBER = re.compile(
    r"\s*[+-]?(0x[0-9a-f.]+(p[+-]?\d+)?|\d+\.?\d*(e[+-]?\d+)?f?|\.\d+(e[+-]?\d+)?|nan|inf(inity)?)\s*", re.IGNORECASE
)
_FOREIGN_KEY = re.compile(r".+\[.*\]")


# What a path leads to.


def kind_of(case: Case, path: str) -> str:
    """The type of a request field, wrappers and map values taken off; empty for what is no field."""
    target = case.target(path)
    while target is not None and target.message_type is not None:
        inner = target.message_type
        is_boxed = inner.full_name.startswith("google.protobuf.") and inner.full_name.endswith("Value")
        if not inner.GetOptions().map_entry and (not is_boxed or inner.full_name in _FREE):
            return inner.full_name
        target = inner.fields_by_name["value"]
    if target is None:
        return ""
    if target.type == FieldDescriptor.TYPE_BYTES:
        return "bytes"
    return {
        FieldDescriptor.CPPTYPE_ENUM: "enum",
        FieldDescriptor.CPPTYPE_BOOL: "bool",
        FieldDescriptor.CPPTYPE_FLOAT: "float",
        FieldDescriptor.CPPTYPE_DOUBLE: "float",
        FieldDescriptor.CPPTYPE_STRING: "string",
    }.get(target.cpp_type, "integer")


def given(case: Case, path: str) -> list[Any]:
    """Everything the request says for a field, in its path, its query or its body."""
    return [*case.texts(path), *case.json_at(path)]


def free_root(case: Case, path: str) -> str:
    """The field of free-form JSON that a path leads into; empty when there is none."""
    steps = re.split(r"(?=[.\[])", path)
    for count in range(1, len(steps) + 1):
        head = "".join(steps[:count])
        if kind_of(case, head) in _FREE:
            return head
    return ""


def is_parameter(case: Case, path: str) -> bool:
    """Whether the query names it."""
    return any(snake(name) == snake(path) for name, _ in case.pairs)


def is_refused(point: Point, *reasons: str) -> bool:
    """Whether it is a violation of ours with one of these reasons."""
    return point.kind is Kind.REFUSED and point.reason in reasons


# Routing.


def _literals(case: Case) -> list[tuple[str, str]]:
    """Each literal of the template with what stands in its place in the path, the verb included."""
    assert case.binding is not None
    template, path = case.binding.template, case.request.path.rstrip("/")
    pairs = []
    if template.verb:
        path, _, verb = path.rpartition(":")
        pairs.append((template.verb, verb))
    segments = path.split("/")[1:]
    head = template.segments.index("**") if "**" in template.segments else len(template.segments)
    tail = template.segments[head + 1 :]
    pairs += zip(template.segments[:head], segments, strict=False)
    pairs += zip(tail, segments[len(segments) - len(tail) :], strict=False)
    return [(wanted, got) for wanted, got in pairs if wanted != "*"]


def escaped_literal(case: Case, point: Point) -> bool:
    """A literal stands percent-encoded in the path or in the template."""
    if case.binding is None or point.kind in {Kind.PASSED, Kind.PRINTED}:
        return False
    encoded = any(wanted != got for wanted, got in _literals(case)) or "%" in case.binding.template.text
    went_elsewhere = case.envoy.call is None or case.ours.call is None or case.envoy.call[0] != case.ours.call[0]
    return encoded and (went_elsewhere or point.path == "text")


def verb_elsewhere(case: Case, point: Point) -> bool:
    """The last segment ends like a verb that another template has."""
    last = case.request.path.rpartition("/")[2]
    return point.kind is Kind.UNROUTED and last.rpartition(":")[2] in VERBS and ":" in last


def nothing_for_stars(case: Case, point: Point) -> bool:
    """`**` before a literal covers no segment."""
    if case.binding is None or "**" not in case.binding.template.segments[:-1]:
        return False
    segments = [item for item in case.request.path.split("/") if item]
    covers_none = len(segments) == len(case.binding.template.segments) - 1
    return covers_none and (point.kind is Kind.UNROUTED or (point.kind is Kind.SENT and point.path == "text"))


def empty_segment(case: Case, point: Point) -> bool:
    """Two slashes in the middle."""
    return case.ours.answer.status == 404 and case.binding is None and "//" in case.request.path.rstrip("/")


def nothing_before_verb(case: Case, point: Point) -> bool:
    """Only a verb in the last segment."""
    return case.request.path.rpartition("/")[2].removeprefix(":") in VERBS and "/:" in case.request.path


def verb_after_any(case: Case, point: Point) -> bool:
    """A verb behind a path that has none, for a rule of any method."""
    return case.binding is None and re.search(r"/any:\w+$", case.request.path) is not None


def other_method(case: Case, point: Point) -> bool:
    """The path is there, the method is not."""
    return (point.kind, point.envoy, point.ours) == (Kind.STATUS, 404, 405) and "allow" in case.ours.answer.headers


def head(case: Case, point: Point) -> bool:
    """HEAD where there is GET. Refusals of it have no text that could be judged."""
    unseen = point.kind in {Kind.STATUS, Kind.PASSED} and 400 in {point.envoy, point.ours}
    return case.request.method == "HEAD" and (point.kind is Kind.UNROUTED or unseen)


def options(case: Case, point: Point) -> bool:
    """OPTIONS on a path that is there."""
    return case.request.method == "OPTIONS" and (point.kind, point.envoy, point.ours) == (Kind.STATUS, 404, 204)


# Queries.


def below_list(case: Case, point: Point) -> bool:
    """A parameter leads through a list or a map."""
    if not is_refused(point, "UNKNOWN_FIELD") or not is_parameter(case, point.path):
        return False
    steps = point.path.split(".")
    parents = [case.target(".".join(steps[:count])) for count in range(1, len(steps))]
    return any(parent is not None and parent.is_repeated for parent in parents)


def below_word(case: Case, point: Point) -> bool:
    """A parameter leads into a message that is written as one word, such as a wrapper or a Timestamp."""
    if not is_refused(point, "UNKNOWN_FIELD") or not is_parameter(case, point.path):
        return False
    parent = case.target(point.path.rpartition(".")[0])
    inner = parent.message_type if parent is not None else None
    return inner is not None and inner.full_name.startswith("google.protobuf.")


def in_body(case: Case, point: Point) -> bool:
    """A parameter names a field that the rule gives to the body."""
    return is_refused(point, "UNKNOWN_FIELD") and "belongs in the body" in point.text


def nameless(case: Case, point: Point) -> bool:
    """A parameter has a value and no name."""
    return is_refused(point, "UNKNOWN_FIELD") and not point.path and any(part[:1] == "=" for part in case.parts)


def without_equals(case: Case, point: Point) -> bool:
    """A parameter is a name alone."""
    bare = [_dotted(part) for part in case.parts if "=" not in part]
    if point.kind is Kind.REFUSED:
        excluded = re.match(r"excludes ([\w.]+);", point.text)
        by_bare = excluded is not None and any(name.startswith(excluded[1]) for name in bare)
        return _dotted(point.path) in bare or by_bare
    return point.kind is Kind.SENT and any(
        point.path == name or point.path.startswith(f"{name}[") or name.startswith(f"{point.path}.") for name in bare
    )


def _dotted(name: str) -> str:
    """`flags[a]` as our violations write it."""
    return re.sub(r"\[(.*)\]$", r".\1", snake(name))


def given_twice(case: Case, point: Point) -> bool:
    """A parameter that is no list comes twice."""
    count = sum(snake(name) == point.path for name, _ in case.pairs)
    return is_refused(point, "DUPLICATE_FIELD") and "more than once" in point.text and count > 1


def contradicts_path(case: Case, point: Point) -> bool:
    """Query or body name a field of the path with another value."""
    return is_refused(point, "CONFLICT") and len(given(case, point.path)) > 1


def unread_path(case: Case, point: Point) -> bool:
    """The path has no value of the field's type, and the body has one for the same field."""
    return point.kind is Kind.REFUSED and bool(case.texts(point.path)) and bool(case.json_at(point.path))


def default_in_body(case: Case, point: Point) -> bool:
    """The body names a field of the path, with 0 or an empty text."""
    if case.binding is None or point.kind not in {Kind.PASSED, Kind.SENT}:
        return False
    fields = [variable.field.removeprefix(f"{case.binding.body}.") for variable in case.binding.template.variables]
    said = [value for field in fields for value in case.json_at(field)[-1:]]
    empty = any(isinstance(value, (int, str)) and not str(value).strip("-0.") for value in said)
    told = re.search(r"conflicting with|convert binding value", point.text) is not None
    return empty and (told if point.kind is Kind.PASSED else point.path in fields)


def same_in_body(case: Case, point: Point) -> bool:
    """Path and body say the same 64-bit number."""
    told = re.search(r'binding value "(-?\d+)" .* conflicting with the value (-?\d+) in the body', point.text)
    said = re.search(r'convert binding value (\w+):"(-?\d+)"', point.text)
    if point.kind is not Kind.PASSED:
        return False
    return (told is not None and told[1] == told[2]) or (
        said is not None and [str(value) for value in case.json_at(said[1])] == [said[2]]
    )


def sign_of_zero(case: Case, point: Point) -> bool:
    """The query repeats the path's zero with another sign."""
    return point.kind is Kind.SENT and kind_of(case, point.path) == "float" and (point.envoy or 0.0) == (point.ours or 0.0)


def map_entry(case: Case, point: Point) -> bool:
    """A parameter sets one entry of a map."""
    return (
        point.kind is Kind.PASSED
        and "Could not find field" in point.text
        and any(_FOREIGN_KEY.fullmatch(name) for name, _ in case.pairs)
    )


def free_json(case: Case, point: Point) -> bool:
    """A parameter is a Struct, Value or ListValue."""
    if point.kind is Kind.PASSED:
        return re.search(r"type\.googleapis\.com/google\.protobuf\.(Struct|ListValue)$", point.text) is not None
    root = free_root(case, point.path)
    return bool(root) and bool(case.texts(root)) and point.kind in {Kind.SENT, Kind.REFUSED} and not bad_text(case, point)


def system_parameter(case: Case, point: Point) -> bool:
    """A parameter speaks to the gateway."""
    return point.kind is Kind.PASSED and '"prettyPrint"' in point.text


def lost_plus(case: Case, point: Point) -> bool:
    """A time's "+" was not encoded and came as a space."""
    spaced = any(re.search(r":\d\d(\.\d+)? \d\d:\d\d$", value) for _, value in case.pairs)
    return point.kind is Kind.PASSED and "Timestamp" in point.text and spaced


# Words, in paths, queries and bodies.


def boolean_words(case: Case, point: Point) -> bool:
    """A boolean as another word than true or false."""
    if not is_refused(point, "WRONG_TYPE"):
        return False
    if point.path.startswith("flags."):
        return point.path.removeprefix("flags.").lower() in _BOOLEANS
    return kind_of(case, point.path) == "bool" and any(str(item).lower() in _BOOLEANS for item in given(case, point.path))


def lax_number(case: Case, point: Point) -> bool:
    """A number that is none by JSON's grammar: "+5", ".5", "007", "0x1p3", "nan"."""
    if not is_refused(point, "WRONG_TYPE") or kind_of(case, point.path) not in {"integer", "float"}:
        return False
    texts = [item for item in given(case, point.path) if isinstance(item, str)]
    return any(_LAX_NUMBER.fullmatch(text) and not _NUMBER.fullmatch(text) for text in texts)


def quoted_exponent(case: Case, point: Point) -> bool:
    """A whole number in quotes with an exponent or with a fraction of zeros, as ProtoJSON has it."""
    return (
        point.kind is Kind.PASSED and re.search(r'value "-?\d+(\.0+|e\d+)" for type TYPE_\w*(INT|FIXED)', point.text) is not None
    )


def negative_zero(case: Case, point: Point) -> bool:
    """-0 for a type without negative numbers."""
    return point.kind is Kind.PASSED and re.search(r'value "?-0"? for type TYPE_(UINT|FIXED)', point.text) is not None


def largest_float(case: Case, point: Point) -> bool:
    """The largest 32-bit number in its shortest form."""
    return point.kind is Kind.PASSED and re.search(r'value "?3\.4028235e\+?38"? for type TYPE_FLOAT', point.text) is not None


def lax_base64(case: Case, point: Point) -> bool:
    """Base64 with white space, or with both alphabets in one text."""
    is_bytes = is_refused(point, "INVALID_FORMAT") and kind_of(case, point.path) == "bytes"
    return is_bytes and any(re.search(r"\s", str(text)) for text in given(case, point.path))


def encoded_name(case: Case, point: Point) -> bool:
    """The name of a parameter has percent-escapes."""
    return point.kind is Kind.PASSED and re.search(r'Could not find field "[^"]*%[0-9A-F]{2}', point.text) is not None


def house_enum(case: Case, point: Point) -> bool:
    """An enum value by its short name, as we print it."""
    return point.kind is Kind.PASSED and re.search(r'invalid value "[a-z_]+" for type .*Color$', point.text) is not None


def other_enum(case: Case, point: Point) -> bool:
    """An enum value by a number that has no name, or by a number in quotes."""
    numbers = [item for item in given(case, point.path) if isinstance(item, int) or str(item).lstrip("-").isdecimal()]
    return is_refused(point, "INVALID_ENUM") and bool(numbers)


def bad_text(case: Case, point: Point) -> bool:
    """An escape that is none, or bytes that are no UTF-8."""
    if not is_refused(point, "INVALID_FORMAT") or "percent-encoded" not in point.text:
        return False
    return bool(_BAD_ESCAPE.search(case.request.target)) or not _is_utf_8(unquote_to_bytes(case.request.target))


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def nul(case: Case, point: Point) -> bool:
    """The NUL character."""
    said = "%00" in case.request.target or b"u0000" in case.request.body
    return is_refused(point, "INVALID_CHARACTER") and "NUL" in point.text and said


def lax_time(case: Case, point: Point) -> bool:
    """A leap second, or a point without digits after it."""
    is_time = is_refused(point, "INVALID_FORMAT") and kind_of(case, point.path) == "google.protobuf.Timestamp"
    return is_time and any(re.search(r":60|\.Z$", str(text)) for text in given(case, point.path))


def lax_duration(case: Case, point: Point) -> bool:
    """A duration with a plus sign, a space, or a point without digits around it."""
    is_duration = is_refused(point, "INVALID_FORMAT") and kind_of(case, point.path) == "google.protobuf.Duration"
    return is_duration and any(re.search(r"^[+.\s]|\.s$|\ss$", str(text)) for text in given(case, point.path))


def lax_mask(case: Case, point: Point) -> bool:
    """A mask with something that is no path, or a path that begins with a capital."""
    if is_refused(point, "INVALID_FORMAT") and kind_of(case, point.path) == "google.protobuf.FieldMask":
        return any(re.search(r"[^\w.,]|,$|,,|\.\.|^\d", str(text)) for text in given(case, point.path))
    return point.kind is Kind.SENT and kind_of(case, point.path) == "google.protobuf.FieldMask" and '"_a"' in str(point.ours)


# Bodies.


def unknown_key(case: Case, point: Point) -> bool:
    """A key that the message has not."""
    return is_refused(point, "UNKNOWN_FIELD") and bool(case.json_at(point.path)) and not is_parameter(case, point.path)


def key_twice(case: Case, point: Point) -> bool:
    """A key comes twice in one object, or in both its spellings."""
    return is_refused(point, "DUPLICATE_FIELD") and len(case.json_at(point.path)) > 1


def other_shape(case: Case, point: Point) -> bool:
    """A list or an object where something else belongs, or something else where they do."""
    if not is_refused(point, "WRONG_TYPE") or is_parameter(case, point.path):
        return False
    wants_shape = re.match(r"must be (a list|an object)", point.text) is not None
    has_shape = any(isinstance(item, (list, Pairs)) or item is None for item in case.json_at(point.path))
    return wants_shape or has_shape or kind_of(case, point.path) == "string"


def lax_json(case: Case, point: Point) -> bool:
    """The body is no JSON."""
    return is_refused(point, "MALFORMED_JSON") and not point.path


def blank_body(case: Case, point: Point) -> bool:
    """The body is white space."""
    return point.kind is Kind.PASSED and bool(case.request.body) and case.request.body.isspace()


def uncalled_body(case: Case, point: Point) -> bool:
    """The rule has no body, the request has one."""
    return case.binding is not None and not case.binding.body and bool(case.request.body)


def empty_body(case: Case, point: Point) -> bool:
    """No body where the rule gives it to one field."""
    if case.binding is None or case.binding.body in {"", "*"} or case.request.body.strip(b" \n\t") not in {b"", b"null"}:
        return False
    return point.kind is Kind.SENT and re.split(r"[.\[]", point.path)[0] == case.binding.body


def derived_mask(case: Case, point: Point) -> bool:
    """PUT and PATCH without a mask."""
    return (point.kind, point.path, point.envoy) == (Kind.SENT, "update_mask", None) and case.request.method in {"PUT", "PATCH"}


def depth(case: Case, point: Point) -> bool:
    """Nested deeper than 64."""
    return is_refused(point, "TOO_DEEP")


def media_type(case: Case, point: Point) -> bool:
    """A body that does not say it is JSON."""
    kind = dict(case.request.headers).get("content-type", "").partition(";")[0]
    return case.ours.answer.status == 415 and kind != "application/json"


def compressed(case: Case, point: Point) -> bool:
    """A body that says it is compressed."""
    return case.ours.answer.status in {400, 415} and "content-encoding" in dict(case.request.headers)


def untyped_upload(case: Case, point: Point) -> bool:
    """An HttpBody without a Content-Type."""
    untyped = not dict(case.request.headers).get("content-type")
    return untyped and (point.kind, point.path, point.envoy) == (Kind.SENT, "file.content_type", None)


def conditional(case: Case, point: Point) -> bool:
    """If-Match on a change."""
    return point.kind is Kind.REFUSED and point.path == "If-Match"


def idempotency(case: Case, point: Point) -> bool:
    """The header Idempotency-Key for a request with a request_id."""
    return "idempotency-key" in dict(case.request.headers) and point.path in {"request_id", "Idempotency-Key"}


# Answers.


def no_content(case: Case, point: Point) -> bool:
    """DELETE answers with an empty message."""
    called = case.ours.call is not None and case.ours.call[0] == "Delete"
    return called and (point.kind, point.envoy, point.ours) == (Kind.STATUS, 200, 204)


def stream_error(case: Case, point: Point) -> bool:
    """A stream ends with an error after its first element."""
    fails = any(name == "fail" and value != "0" for name, value in case.pairs)
    streams = case.binding is not None and case.binding.rpc.server_streaming
    return streams and fails and (point.kind is Kind.PRINTED or (point.kind is Kind.STATUS and point.envoy == 200))
