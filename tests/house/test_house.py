"""The house is still itself: files one can read in a sitting, a contract without gaps, nothing of a workplace in the tree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 410
PROGRAMS = ("cloud", "edge", "gateway_rest", "host", "kernel", "sandboxes", "scripts")


def tracked(*patterns: str) -> list[Path]:
    """What git tracks; in a tree without git, what is there."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
        return [path for path in found if path.is_file()]
    return [path for pattern in patterns for path in ROOT.rglob(pattern.removeprefix("*"))]


def contract() -> FileDescriptorSet:
    return FileDescriptorSet.FromString((ROOT / "protos" / "gipos" / "api.binpb").read_bytes())


def test_files_can_be_read_in_a_sitting() -> None:
    long = {}
    for program in PROGRAMS:
        for path in (ROOT / program).rglob("*.py"):
            if (count := len(path.read_text().splitlines())) > LONGEST:
                long[str(path.relative_to(ROOT))] = count
    assert not long


def test_every_public_call_has_a_route_and_words() -> None:
    silent = []
    for file in contract().file:
        if file.package != "gipos.v1":
            continue
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        for number, service in enumerate(file.service):
            for index, method in enumerate(service.method):
                rule: Any = method.options.Extensions[cast("Any", annotations_pb2).http]
                # OAuth's endpoints speak forms, dashboards WebSocket: their routes are written by hand (gateway_rest/oauth.py,
                # gateway_rest/dashboards).
                is_routed = rule.WhichOneof("pattern") or service.name in {"OAuthService", "DashboardService"}
                if not is_routed or not comments.get((6, number, 2, index)):
                    silent.append(f"{service.name}.{method.name}")
    assert not silent


def test_every_field_of_a_request_is_explained_or_explains_itself() -> None:
    """Requests are what callers write: each field but a bare id or a body has a comment."""
    silent = []
    for file in contract().file:
        if file.package != "gipos.v1":
            continue
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        for number, message in enumerate(file.message_type):
            if not message.name.endswith("Request"):
                continue
            for index, field in enumerate(message.field):
                is_body = field.type == field.TYPE_MESSAGE and not field.type_name.startswith(".google.")
                if field.name not in {"id", "product_id", "reason"} and not is_body and not comments.get((4, number, 2, index)):
                    silent.append(f"{message.name}.{field.name}")
    assert not silent


@pytest.mark.parametrize(
    "forbidden",
    [
        r"/work/",
        r"\.\./shared",
        "pypi" + r"\.org",
        "pythonhosted" + r"\.org",
        "registry" + r"\.npmjs",
        "deb" + r"\.debian\.org",
        r"--(extra-)?index" + "-url(?! )",
    ],
)
def test_nothing_of_a_workplace_is_in_the_tree(forbidden: str) -> None:
    pattern = re.compile(forbidden)
    here = Path(__file__).resolve()
    found = []
    for path in tracked("*"):
        if path == here or path.suffix in {".png", ".binpb"}:
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
            if pattern.search(line) and "--no-emit-index" + "-url" not in line:
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert not found


def test_comments_owe_nothing() -> None:
    owed = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    found = []
    for path in tracked("*.py", "*.proto", "*.sh"):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if owed.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert not found
