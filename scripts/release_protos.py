"""Keeps the contract that was released, so that a breaking change fails `scripts/test` from then on.

`python -m scripts.release_protos` copies the compiled contract, without its comments, to protos/released/api.binpb, and the
outline of the OpenAPI document next to it. It refuses to when the new contract breaks the released one; a new major version
(`gipos.v2` beside `gipos.v1`) is no break.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from scripts import build_protos

PROTOS: Final = build_protos.PROTOS
RELEASED: Final = PROTOS / "released" / "api.binpb"
OUTLINE: Final = PROTOS / "released" / "openapi.json"
BUF: Final = Path(sys.executable).with_name("buf")
_METHODS: Final = ("get", "put", "post", "delete", "patch")


def stripped(content: bytes) -> bytes:
    """A descriptor file without comments and positions: what is compared, and small enough to keep in git."""
    files = FileDescriptorSet.FromString(content)
    for file in files.file:
        file.ClearField("source_code_info")
    return files.SerializeToString(deterministic=True)


def breaks(new: Path, old: Path) -> str:
    """What buf says against replacing the old contract by the new one, by the rules in protos/buf.yaml; empty when nothing."""
    done = subprocess.run(
        [BUF, "breaking", new, "--against", old, "--path", "gipos"],
        cwd=PROTOS,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout if done.returncode else ""


def outline(document: dict[str, Any]) -> dict[str, Any]:
    """What of an OpenAPI document clients depend on: calls with their parameters and answers, and the fields of schemas."""
    calls = {
        f"{method.upper()} {path}": {
            "operation": operation["operationId"],
            "parameters": {
                f"{item['in']} {item['name']}": bool(item.get("required")) for item in operation.get("parameters", ())
            },
            "answers": sorted(status for status in operation["responses"] if status.startswith("2")),
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in _METHODS
    }
    schemas = {
        name: {
            "fields": sorted(schema.get("properties", {})),
            "required": sorted(schema.get("required", [])),
            "values": schema.get("enum", []),
        }
        for name, schema in document["components"]["schemas"].items()
    }
    return {"calls": calls, "schemas": schemas}


def lost(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What a client of the old outline would miss in the new one, or would suddenly have to give."""
    missing = []
    for name, call in old["calls"].items():
        now = new["calls"].get(name)
        if now is None:
            missing.append(f"{name} is gone")
            continue
        if now["operation"] != call["operation"]:
            missing.append(f"{name} is now called {now['operation']}, not {call['operation']}")
        missing += [f"{name}: parameter {item} is gone" for item in call["parameters"].keys() - now["parameters"].keys()]
        missing += [
            f"{name}: parameter {item} is now required"
            for item, required in now["parameters"].items()
            if required and not call["parameters"].get(item, False)
        ]
        missing += [f"{name}: status {status} is gone" for status in set(call["answers"]) - set(now["answers"])]
    for name, schema in old["schemas"].items():
        now = new["schemas"].get(name)
        if now is None:
            missing.append(f"schema {name} is gone")
            continue
        missing += [f"{name}.{field} is gone" for field in set(schema["fields"]) - set(now["fields"])]
        missing += [f"{name}: value {value} is gone" for value in set(schema["values"]) - set(now["values"])]
        if name.endswith(("Input", "Body", "Change", "Patch")):
            missing += [f"{name}.{field} is now required" for field in set(now["required"]) - set(schema["required"])]
        else:
            missing += [f"{name}.{field} is no longer always there" for field in set(schema["required"]) - set(now["required"])]
    return sorted(missing)


def current() -> dict[str, Any]:
    """The outline of the contract as it is."""
    from gateway_rest import contract, openapi
    from gateway_rest.transcoding import rules

    installed = contract.installed()
    loaded = rules.load(installed.files, installed.pool, installed.packages)
    return outline(json.loads(openapi.document(installed, loaded)))


def main(arguments: list[str] | None = None) -> int:
    """Releases, or says what would break; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release_protos", description="Keep the contract as released.")
    parser.add_argument("--even-if-breaking", action="store_true", help="before anybody uses the contract")
    force = parser.parse_args(arguments).even_if_breaking
    if not build_protos.is_fresh():
        build_protos.build()
    if RELEASED.exists() and not force:
        problems = breaks(build_protos.DESCRIPTORS, RELEASED).splitlines()
        problems += lost(json.loads(OUTLINE.read_text("utf-8")), current()) if OUTLINE.exists() else []
        if problems:
            print("\n".join([*problems, "Nothing was released: this would break clients of the released contract."]))
            return 1
    RELEASED.parent.mkdir(exist_ok=True)
    RELEASED.write_bytes(stripped(build_protos.DESCRIPTORS.read_bytes()))
    OUTLINE.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"Released: {RELEASED.relative_to(PROTOS.parent)} and {OUTLINE.relative_to(PROTOS.parent)}. Commit both.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
