"""Names in the document: readable ones, because generated clients turn them into functions and folders."""

from __future__ import annotations

import re

from gateway_rest.transcoding.rules import Binding

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z]|\d|$)|[A-Z]?[a-z0-9]+")
_VERSION = re.compile(r"\.(v[1-9][0-9]*)\.")
_TAGS = {
    "AccountService": "Account",
    "ApiKeyService": "API keys",
    "AuditService": "Audit log",
    "OAuthClientService": "OAuth clients",
    "InventoryService": "Inventory",
    "UsageService": "Usage",
}
"""Where the plural of the service's name is not the word one would look for."""


def tag(service: str) -> str:
    """The group of a service's operations: "Products" for ProductService."""
    plain = " ".join(_WORD.findall(service.removesuffix("Service")))
    return _TAGS.get(service, f"{plain}s")


def version(full_name: str) -> str:
    """What sets names of later versions apart: "V2" for whatever is in a package that ends with v2, nothing in v1."""
    match = _VERSION.search(full_name)
    return match[1].upper() if match is not None and match[1] != "v1" else ""


def operation_id(binding: Binding, method: str, first: Binding) -> str:
    """The operation's name, `listProducts`. Further bindings of an RPC say how they differ from its first one.

    A PUT that has a PATCH beside it is the one that replaces.
    """
    name = binding.rpc.name + version(binding.rpc.full_name)
    verb = re.match(r"[A-Z][a-z]*", name)
    if verb and verb[0] == "Update" and method == "put":
        return f"replace{name.removeprefix('Update')}"
    plain = name[0].lower() + name[1:]
    if binding.index == first.index or (verb and verb[0] == "Update" and method == "patch"):
        return plain
    extra = [segment for segment in binding.template.segments if segment not in first.template.segments]
    words = [word.capitalize() for segment in extra for word in re.findall(r"[a-z0-9]+", segment)]
    return plain + ("".join(words) or f"_{binding.index}")
