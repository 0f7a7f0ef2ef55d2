"""Messages and enums as JSON Schema, as the codec prints and reads them.

Answers and requests have schemas of their own: an answer always has certain fields, a request may leave out or null what is not
required, may not have what is unknown, and keeps within bounds. A message that both use is `Product` in one and `ProductInput` in
the other.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway_rest.openapi import fields, names, values
from gateway_rest.openapi.comments import Comments
from gateway_rest.openapi.values import Schema
from kernel.protojson import EnumNames
from kernel.protojson.schemas import enum_of, is_decimal, is_plain_json, is_real_oneof, map_entry, message_of

MASK = "update_mask"


class Schemas:
    """Makes schemas; those of messages and enums become components."""

    def __init__(self, comments: Comments) -> None:
        self._comments = comments
        self._owners: dict[str, str] = {}
        self.components: dict[str, Schema] = {}

    def answer(self, message: Descriptor) -> Schema:
        """A reference to the message as answers have it."""
        return self._reference(message, is_input=False)

    def draft(self, message: Descriptor) -> Schema:
        """A reference to the message as requests have it."""
        return self._reference(message, is_input=True)

    def body(self, message: Descriptor, name: str, without: Collection[str] = (), *, is_partial: bool = False) -> Schema:
        """A reference to the message as a request body, under a name of its own, some fields left out.

        `is_partial` is for PATCH, where nothing is required.
        """
        name = self._claim(name, f"{message.full_name} {sorted(without)} {is_partial}", message.full_name)
        if name not in self.components:
            self.components[name] = self._message(message, is_input=True, without=without, is_partial=is_partial)
        return {"$ref": f"#/components/schemas/{name}"}

    def _change(self, message: Descriptor) -> Schema:
        """A reference to the message as one item of a batch of changes: with its key, and nothing required."""
        name = self._claim(f"{message.name}Change", f"{message.full_name} change", message.full_name)
        if name not in self.components:
            self.components[name] = {}
            schema = self._message(message, is_input=True, is_partial=True)
            key = {"id": self._property(message.fields_by_name["id"], is_input=True)} if "id" in message.fields_by_name else {}
            self.components[name] = {**schema, "properties": {**key, **schema["properties"]}}
        return {"$ref": f"#/components/schemas/{name}"}

    def component(self, name: str, schema: Schema) -> Schema:
        """A reference to a schema that is made elsewhere."""
        if self._owners.setdefault(name, name) != name:
            raise ValueError(f"Two schemas would be called {name}.")
        self.components.setdefault(name, schema)
        return {"$ref": f"#/components/schemas/{name}"}

    def answer_field(self, field: FieldDescriptor) -> Schema:
        """The value of one field as answers have it."""
        return self._property(field, is_input=False)

    def parameter(self, field: FieldDescriptor) -> tuple[Schema, str]:
        """The schema of a field that stands in path or query, and its description. Nothing is ever null there."""
        schema = self._value(field, is_input=True)
        if is_decimal(field):
            schema = {"type": "string", "pattern": schema["pattern"]}
        return schema, self._comments.of(field.full_name)

    def _reference(self, message: Descriptor, *, is_input: bool) -> Schema:
        known = values.well_known(message.full_name)
        if known is not None:
            return known
        name = f"{message.name.removesuffix('Request')}Input" if is_input else message.name
        name = self._claim(name, f"{message.full_name} {'in' if is_input else 'out'}", message.full_name)
        if name not in self.components:
            self.components[name] = {}
            self.components[name] = self._message(message, is_input=is_input)
        return {"$ref": f"#/components/schemas/{name}"}

    def _claim(self, name: str, owner: str, full_name: str) -> str:
        """The component name for an owner: the short one, with its version from v2 on, or the full one where that is taken."""
        for candidate in (name + names.version(full_name), f"{full_name}.{name}"):
            if self._owners.setdefault(candidate, owner) == owner:
                return candidate
        raise ValueError(f"Two schemas would be called {name}: {self._owners[name]} and {owner}. Rename one of the messages.")

    def _message(self, message: Descriptor, *, is_input: bool, without: Collection[str] = (), is_partial: bool = False) -> Schema:
        members = [
            field
            for field in message.fields
            if field.name not in without and not (fields.is_output_only(field) if is_input else fields.is_input_only(field))
        ]
        schema: Schema = {"type": "object"}
        if comment := self._comments.of(message.full_name):
            schema["description"] = comment
        schema["properties"] = {field.name: self._property(field, is_input=is_input) for field in members}
        wanted = fields.is_required if is_input else fields.is_always_printed
        if required := [field.name for field in members if wanted(field) and not is_partial]:
            schema["required"] = required
        if is_input:
            schema["additionalProperties"] = False
        groups = [_choice([field.name for field in oneof.fields]) for oneof in message.oneofs if is_real_oneof(oneof.fields[0])]
        if len(groups) == 1:
            schema |= groups[0]
        elif groups:
            schema["allOf"] = groups
        return schema

    def _property(self, field: FieldDescriptor, *, is_input: bool) -> Schema:
        schema = self._value(field, is_input=is_input)
        if is_input and not fields.is_required(field):
            schema = _nullable(schema)
        if comment := self._comments.of(field.full_name):
            schema["description"] = comment
        if is_input and fields.is_immutable(field):
            schema["description"] = f"{schema.get('description', '')}\nCannot be changed later.".strip()
        if sensitivity := fields.data_class(field):
            schema["x-data-class"] = sensitivity
        if kind := fields.resource(field):
            schema["x-resource"] = kind
        options: Any = field.GetOptions()
        if options.deprecated:
            schema["deprecated"] = True
        return schema

    def _value(self, field: FieldDescriptor, *, is_input: bool) -> Schema:
        entry = map_entry(field)
        if entry is not None:
            return {"type": "object", "additionalProperties": self._single(entry.fields_by_name["value"], is_input=is_input)}
        single = self._single(field, is_input=is_input)
        if is_input:
            single = values.bounded(single, field)
            if "enum" in single:
                single = self._named(field, single)
        if not field.is_repeated:
            return single
        return values.listed(single, field) if is_input else {"type": "array", "items": single}

    def _single(self, field: FieldDescriptor, *, is_input: bool) -> Schema:
        if field.message_type is not None:
            if message_of(field).full_name == "google.protobuf.Any" and is_plain_json(field):
                return {"type": "object", "additionalProperties": True}
            if is_input and field.name == MASK and not field.is_repeated:
                return {**self._reference(message_of(field), is_input=True), **_paths(field)}
            if is_input and not field.is_repeated and _masked(field.containing_type) is field:
                return self._change(message_of(field))
            return self._reference(message_of(field), is_input=is_input)
        if field.type == FieldDescriptor.TYPE_ENUM:
            named = self._enum(enum_of(field))
            # Requests may also give the number, as everywhere in protobuf's JSON.
            return {"anyOf": [named, self._numbers(enum_of(field))]} if is_input else named
        return values.scalar(field, is_input=is_input)

    def _named(self, field: FieldDescriptor, schema: Schema) -> Schema:
        """The few values of a field under a name of their own: clients make a type of it, and one only."""
        owner = field.containing_type
        assert owner is not None, "fields of requests belong to messages"
        words = fields.bounds(field).format.split("-") if fields.bounds(field).format else field.name.split("_")
        prefix = "" if fields.bounds(field).format else owner.name.removesuffix("Request")
        if comment := values.meaning(field) or self._comments.of(field.full_name):
            schema = {**schema, "description": comment}
        return self.component(prefix + "".join(word.capitalize() for word in words) + names.version(owner.full_name), schema)

    def _numbers(self, enum: EnumDescriptor) -> Schema:
        """A reference to the values of an enum by number."""
        name = self._claim(f"{enum.name}Number", f"{enum.full_name} number", enum.full_name)
        words = [f"{number}: `{word}`" for number, word in sorted(EnumNames(enum).printed.items())]
        self.components[name] = {
            "type": "integer",
            "enum": sorted(EnumNames(enum).printed),
            "description": f"The same by number: {', '.join(words)}.",
        }
        return {"$ref": f"#/components/schemas/{name}"}

    def _enum(self, enum: EnumDescriptor) -> Schema:
        name = self._claim(enum.name, enum.full_name, enum.full_name)
        if name not in self.components:
            printed = EnumNames(enum).printed
            lines = [self._comments.of(enum.full_name)]
            for value in enum.values:
                comment = self._comments.of(f"{enum.full_name}.{value.name}")
                lines.append(f"* `{printed[value.number]}`" + (f": {' '.join(comment.split())}" if comment else ""))
            self.components[name] = {
                "type": "string",
                "enum": list(dict.fromkeys(printed.values())),
                "description": "\n".join(line for line in lines if line),
            }
        return {"$ref": f"#/components/schemas/{name}"}


def _masked(message: Descriptor | None) -> FieldDescriptor | None:
    """The resource in a request whose mask says which of its fields change."""
    if message is None or MASK not in message.fields_by_name:
        return None
    for field in message.fields:
        if field.message_type is not None and field.name != MASK and not field.is_repeated:
            return field
    return None


def _paths(mask: FieldDescriptor) -> Schema:
    """What a mask may name: the fields of its resource that can be written."""
    resource = _masked(mask.containing_type)
    if resource is None:
        return {}
    known = []
    for field in message_of(resource).fields:
        inner = field.message_type
        if fields.is_output_only(field):
            continue
        deeper = (
            ""
            if inner is None or field.is_repeated or values.well_known(inner.full_name)
            else "|".join(below.name for below in inner.fields)
        )
        known.append(field.name + (rf"(\.({deeper}))?" if deeper else ""))
    one = f"({'|'.join(known)})"
    return {"pattern": rf"^(\*|{one}(,{one})*)$"}


def _nullable(schema: Schema) -> Schema:
    """What a caller may also set to null, which means: not given."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    kinds = schema.get("type")
    if kinds is None:
        return schema
    listed = kinds if isinstance(kinds, list) else [kinds]
    return {**schema, "type": [*listed, "null"]}


def _choice(names: list[str]) -> Schema:
    """At most one of these."""
    nothing = {"not": {"anyOf": [{"required": [name]} for name in names]}}
    return {"oneOf": [nothing, *({"required": [name]} for name in names)]}
