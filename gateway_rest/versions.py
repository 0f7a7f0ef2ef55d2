"""The versions of the API side by side (`/api/v1`, `/api/v2`), for callers who ask for one that has not what they want."""

from __future__ import annotations

import re

from gateway_rest.errors import Refusal
from gateway_rest.transcoding.rules import Rules

_VERSION = re.compile(r"v[1-9][0-9]*")
_PATH = re.compile(rb"/api/([^/]{1,32})(/.*)?")


class Versions:
    """Which versions a contract has."""

    def __init__(self, rules: Rules) -> None:
        self._trie = rules.trie
        names = {binding.template.segments[1] for binding in rules.bindings if binding.template.segments[:1] == ("api",)}
        self.names = sorted((name for name in names if _VERSION.fullmatch(name)), key=lambda name: int(name[1:]))
        """Oldest first, for example `["v1", "v2"]`."""

    def missing(self, method: str, raw_path: bytes, shown: str) -> Refusal:
        """What to say of a path that no binding has: the same in another version, or which versions there are."""
        match = _PATH.fullmatch(raw_path)
        if match is None or not self.names:
            return Refusal(404, "ROUTE_NOT_FOUND", path=shown)
        asked = match[1].decode("latin-1")
        elsewhere = [name for name in self.names if name != asked and self._has(method, name, match[2] or b"")]
        if elsewhere:
            return Refusal(404, "OTHER_VERSION", path=shown, versions=", ".join(elsewhere))
        if asked not in self.names:
            return Refusal(404, "UNKNOWN_VERSION", path=shown, versions=", ".join(self.names))
        return Refusal(404, "ROUTE_NOT_FOUND", path=shown)

    def _has(self, method: str, name: str, rest: bytes) -> bool:
        binding, _, allowed = self._trie.find(method, b"/api/" + name.encode() + rest)
        return binding is not None or bool(allowed)
