"""Writes docs/reference/errors.md and errors.id.md from the error classes, the gateway's refusals and the words in copy/.

`python -m scripts.error_reference` writes them; a test fails when they are not what it would write.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.rpc import code_pb2

from gateway_rest import copy, errors
from gateway_rest.openapi import failures

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "docs" / "reference"
FILES: Final = {"en": FOLDER / "errors.md", "id": FOLDER / "errors.id.md"}
_REASON = re.compile(r"[A-Z][A-Z0-9_]{2,}")
_OTHER: Final = {"en": "[Bahasa Indonesia](errors.id.md)", "id": "[English](errors.md)"}


@dataclass(frozen=True)
class Reason:
    """One reason of an error."""

    name: str
    status: int
    code: str
    """Empty where no gRPC call is made."""


def reasons() -> list[Reason]:
    """All of them, by HTTP status and name: what services raise, and what the gateway says by itself."""
    found = {
        kind.reason: Reason(kind.reason, failures.status_of(kind), code_pb2.Code.Name(kind.code)) for kind in failures.kinds()
    }
    for path in _sources("gateway_rest"):
        for call in _calls(path, "Refusal", "Problem"):
            match call.args:
                case [ast.Constant(value=int(status)), ast.Constant(value=str(name)), *_] if _REASON.fullmatch(name):
                    found.setdefault(name, Reason(name, status, ""))
    for code, name in errors._PLAIN_REASONS.items():  # noqa: SLF001 (this table is what is documented here)
        found.setdefault(name, Reason(name, errors.HTTP_STATUS[code], code_pb2.Code.Name(code)))
    return sorted(found.values(), key=lambda reason: (reason.status, reason.name))


def field_reasons() -> list[str]:
    """Every reason that a violation can have, as it stands in the code."""
    found: set[str] = set()
    for path in _sources("kernel", "cloud", "gateway_rest"):
        for call in _calls(path, "Violation", "add"):
            if len(call.args) >= 3:
                found.update(_texts(call.args[1]))
        if path.name == "addresses.py":
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Tuple) and len(node.elts) == 2:
                    found.update(_texts(node.elts[0]))
    return sorted(found)


def written(language: str) -> str:
    """The page in a language.

    Raises:
        KeyError: a reason has no words yet; the text names it.
    """

    def say(key: str) -> str:
        return copy.page(language, key)

    lines = [] if language == "en" else [f"<!-- lang: {language} -->", ""]
    lines += [f"# {say('errors')}", "", f"{say('errors.intro')} {_OTHER[language]}", ""]
    lines += [f"## {say('errors.again')}", "", say("errors.again.intro"), "", f"## {say('errors.reasons')}", ""]
    for reason in reasons():
        advice = copy.advice(language, reason.name)
        if not advice:
            raise KeyError(f'{reason.name} has no "advice" in gateway_rest/copy/{language}.json')
        where = f"HTTP {reason.status}" + (f" · gRPC {reason.code}" if reason.code else "")
        title = copy.title(language, reason.name, reason.status)
        lines += [f"### {reason.name}", "", f"{where}. **{title}.** {advice}", ""]
    lines += [f"## {say('errors.fields')}", "", say("errors.fields.intro"), "", *_head(say("errors.fields.row"))]
    for name in field_reasons():
        meaning = copy.violation(language, name)
        if not meaning:
            raise KeyError(f'{name} has no "violation" in gateway_rest/copy/{language}.json')
        lines.append(f"| `{name}` | {meaning} |")
    return "\n".join([*lines, ""])


def _head(row: str) -> list[str]:
    columns = row.split(" | ")
    return ["| " + row + " |", "|" + "---|" * len(columns)]


def _sources(*programs: str) -> Iterator[Path]:
    for program in programs:
        yield from sorted((ROOT / program).rglob("*.py"))


def _calls(path: Path, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in names:
                yield node


def _texts(node: ast.expr) -> Iterator[str]:
    for part in (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and _REASON.fullmatch(part.value):
            yield part.value


def main() -> int:
    """Writes both pages."""
    FOLDER.mkdir(exist_ok=True)
    for language, path in FILES.items():
        path.write_text(written(language), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
