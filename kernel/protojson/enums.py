"""How enum values are written: lower case and without the type's name, so that SALE_STATUS_COMPLETED is "completed"."""

from __future__ import annotations

import re

from google.protobuf.descriptor import EnumDescriptor

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class EnumNames:
    """The names of one enum, both ways."""

    def __init__(self, descriptor: EnumDescriptor) -> None:
        prefix = _WORD.sub("_", descriptor.name).upper() + "_"
        self.printed: dict[int, str] = {}
        """Number to the name that is printed; the first declared of several with one number."""
        self.accepted: dict[str, int] = {}
        """Every name that is understood, the full ones included."""
        short = all(value.name.startswith(prefix) and len(value.name) > len(prefix) for value in descriptor.values)
        for value in descriptor.values:
            name = (value.name[len(prefix) :] if short else value.name).lower()
            self.printed.setdefault(value.number, name)
            self.accepted.setdefault(name, value.number)
        for value in descriptor.values:
            self.accepted.setdefault(value.name, value.number)

    def allowed(self) -> str:
        """The printed names, for a message; the unspecified one is nothing a caller would send."""
        names = [f'"{name}"' for name in self.printed.values() if name != "unspecified"]
        return ", ".join(names)
