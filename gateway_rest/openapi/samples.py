"""An example as curl, Python and TypeScript: programs that run as they stand, given GIPOS_URL and GIPOS_API_KEY."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from gateway_rest.openapi.examples import Example

_WORD = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_WIDTH = 90
_CLIENT = """\
import createClient from "openapi-fetch";
import type { paths } from "./gipos"; // npx openapi-typescript "$GIPOS_URL/openapi.json" -o gipos.d.ts

const gipos = createClient<paths>({
  baseUrl: process.env.GIPOS_URL,
  headers: { Authorization: `Bearer ${process.env.GIPOS_API_KEY}` },
});
"""


def all_of(example: Example) -> list[dict[str, str]]:
    """What stands as `x-codeSamples` in the document."""
    return [
        {"lang": "Shell", "label": "curl", "source": curl(example)},
        {"lang": "Python", "label": "Python", "source": python(example)},
        {"lang": "TypeScript", "label": "TypeScript", "source": typescript(example)},
    ]


def curl(example: Example) -> str:
    """For a shell."""
    query = f"?{urlencode(_texts(example.query), doseq=True)}" if example.query else ""
    options = ["-sS"]
    if example.is_stream:
        options.append("-N")
    if example.method != ("get" if example.body is None else "post"):
        options.append(f"-X {example.method.upper()}")
    parts = [f'curl {" ".join(options)} "$GIPOS_URL{example.path}{query}"', '-H "Authorization: Bearer $GIPOS_API_KEY"']
    parts += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in example.headers.items()]
    if example.body is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append(f"-d {shlex.quote(json.dumps(example.body, indent=2, ensure_ascii=False))}")
    return " \\\n  ".join(parts) + "\n"


def python(example: Example) -> str:
    """For Python with the package requests."""
    headers = "".join(f", {_quoted(name)}: {_quoted(value)}" for name, value in example.headers.items())
    lines = [
        *(["import json"] if example.is_stream else []),
        "import os",
        "",
        "import requests",
        "",
        f"answer = requests.{example.method}(",
        f'    os.environ["GIPOS_URL"] + {_quoted(example.path)},',
        f'    headers={{"Authorization": "Bearer " + os.environ["GIPOS_API_KEY"]{headers}}},',
    ]
    if example.query:
        lines.append(f"    params={_PYTHON.write(_texts(example.query), 1)},")
    if example.body is not None:
        lines.append(f"    json={_PYTHON.write(example.body, 1)},")
    if example.is_stream:
        lines += ["    stream=True,", "    timeout=60,", ")", "answer.raise_for_status()"]
        lines += ["for line in answer.iter_lines():", "    print(json.loads(line), flush=True)"]
    else:
        shown = "answer.status_code" if example.answer is None else "answer.json()"
        lines += ["    timeout=15,", ")", "answer.raise_for_status()", f"print({shown})"]
    return "\n".join(lines) + "\n"


def typescript(example: Example) -> str:
    """For TypeScript with the client that openapi-typescript makes of this document."""
    places = (("path", example.parameters), ("query", example.query), ("header", example.headers))
    parameters = {name: value for name, value in places if value}
    options: dict[str, Any] = {"params": parameters} if parameters else {}
    if example.body is not None:
        options["body"] = example.body
    if example.is_stream:
        options["parseAs"] = "stream"
    given = f", {_TYPESCRIPT.write(options, 0)}" if options else ""
    names, shown = "data, error", "console.log(JSON.stringify(data, null, 2));"
    if example.is_stream:
        shown = "for await (const text of data!.pipeThrough(new TextDecoderStream())) console.log(text);"
    elif example.answer is None:
        names, shown = "error, response", "console.log(response.status);"
    return (
        f'{_CLIENT}\nconst {{ {names} }} = await gipos.{example.method.upper()}("{example.template}"{given});\n'
        f"if (error) throw new Error(error.detail);\n{shown}\n"
    )


def _texts(query: dict[str, Any]) -> dict[str, Any]:
    """Query values as they are written in an address: "true", and not Python's "True"."""
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}


@dataclass(frozen=True)
class _Notation:
    """How a language writes JSON values."""

    indent: str
    words: dict[Any, str]
    space: str
    """Within braces."""
    key: Callable[[str], str]

    def write(self, value: Any, depth: int) -> str:
        """The value as source, on one line where it is short."""
        if isinstance(value, dict):
            items = [f"{self.key(name)}: {self.write(item, depth + 1)}" for name, item in value.items()]
            return self._enclose(items, "{", "}", depth, self.space if items else "")
        if isinstance(value, list):
            return self._enclose([self.write(item, depth + 1) for item in value], "[", "]", depth, "")
        if isinstance(value, str):
            return _quoted(value)
        return self.words[value] if value is None or isinstance(value, bool) else str(value)

    def _enclose(self, items: list[str], opening: str, closing: str, depth: int, space: str) -> str:
        short = ", ".join(items)
        if len(short) + depth * len(self.indent) < _WIDTH and "\n" not in short:
            return f"{opening}{space}{short}{space}{closing}"
        inner = "".join(f"{self.indent * (depth + 1)}{item},\n" for item in items)
        return f"{opening}\n{inner}{self.indent * depth}{closing}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_PYTHON = _Notation("    ", {True: "True", False: "False", None: "None"}, "", _quoted)
_TYPESCRIPT = _Notation(
    "  ", {True: "true", False: "false", None: "null"}, " ", lambda name: name if _WORD.fullmatch(name) else _quoted(name)
)
