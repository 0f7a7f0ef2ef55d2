"""The examples as one story: real ids take the place of shown ones, and answers are compared by shape. Calls nobody itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator
from typing import Any

from gateway_rest.openapi.examples import Example

_LEARNED = re.compile(r"(^|_)(id|token|cursor|key|secret)$")
"""Names of fields whose values differ from run to run and are used again."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_ID = re.compile(r"([a-z]{2,4}_)[0-9a-z]{26}")


class Story:
    """What is known so far."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        """Shown text to real text."""

    def told(self, example: Example) -> Example:
        """The example with real ids in its request."""
        parameters = self._real(example.parameters)
        path = example.path
        for name, shown in example.parameters.items():
            path = path.replace(shown, parameters[name])
        return dataclasses.replace(
            example,
            path=path,
            parameters=parameters,
            query=self._real(example.query),
            headers=self._real(example.headers),
            body=self._real(example.body),
        )

    def learn(self, shown: Any, real: Any, name: str = "") -> None:
        """Notes how real ids differ from the shown ones."""
        if isinstance(shown, dict) and isinstance(real, dict):
            for key in shown.keys() & real.keys():
                self.learn(shown[key], real[key], key)
        elif isinstance(shown, list) and isinstance(real, list):
            for one, other in zip(shown, real, strict=False):
                self.learn(one, other, name)
        elif isinstance(shown, str) and isinstance(real, str) and len(shown) > 5 and real and _LEARNED.search(name):
            self.known[shown] = real

    def _real(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._real(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._real(item) for item in value]
        return self.known.get(value, value) if isinstance(value, str) else value


def differences(shown: Any, real: Any, varies: Collection[str] = (), place: str = "answer") -> Iterator[str]:
    """Where a real answer has another shape than the shown one: other members, other kinds of values, empty lists.

    What is named in `varies` may be there or not, and be empty or not.
    """
    if isinstance(shown, dict) and isinstance(real, dict):
        for key in sorted(shown.keys() ^ real.keys()):
            if key not in varies:
                yield f"{place}.{key} is {'missing' if key in shown else 'not shown'}"
        for key in sorted(shown.keys() & real.keys()):
            if key not in varies or (shown[key] and real[key]):
                yield from differences(shown[key], real[key], varies, f"{place}.{key}")
    elif isinstance(shown, list) and isinstance(real, list):
        if bool(shown) != bool(real):
            yield f"{place} has {len(real)} entries, shown are {len(shown)}"
        for index, (one, other) in enumerate(zip(shown, real, strict=False)):
            yield from differences(one, other, varies, f"{place}[{index}]")
    elif _kind(shown) != _kind(real):
        yield f"{place} is {real!r}, shown is {shown!r}"


def _kind(value: Any) -> str:
    """What a value is like, apart from what it is."""
    if isinstance(value, str):
        if _MOMENT.fullmatch(value):
            return "moment"
        match = _ID.fullmatch(value)
        return match[1] if match else ("text" if value else "nothing")
    return type(value).__name__
