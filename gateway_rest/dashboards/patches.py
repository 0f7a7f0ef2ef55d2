"""Changes of JSON objects as merge patches (RFC 7396). Values hold no nulls, or they could not be told."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def difference(before: Json, after: Json) -> Json:
    """The patch that makes one of the other."""
    patch: Json = {}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if value is not old and (inner := difference(old, value)):
                patch[name] = inner
        elif old != value or type(old) is not type(value):
            patch[name] = value
    patch.update((name, None) for name in before.keys() - after.keys())
    return patch


def applied(value: Any, patch: Json) -> Json:
    """The value after a patch. What the patch does not touch is shared with the value before, and neither may be changed."""
    result: Json = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            result.pop(name, None)
        else:
            result[name] = applied(result.get(name), change) if isinstance(change, dict) else change
    return result
