"""The container files, read without containers: everything they name exists, and they hold no secret."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # brings no types, and this is the one place that reads YAML

from cloud.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
OURS = ("cloud", "gateway")


def commands() -> list[list[str]]:
    services = COMPOSE["services"]
    found = [services[name]["command"] for name in OURS] + [services[name]["healthcheck"]["test"][1:] for name in OURS]
    return [command for command in found if command[1] == "-m"]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[2])
def test_every_command_names_a_program_of_ours_that_can_be_run(command: list[str]) -> None:
    module = command[2]
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__") is not None


@pytest.mark.parametrize("name", OURS)
def test_every_option_of_a_command_is_one_the_program_knows(name: str) -> None:
    command = COMPOSE["services"][name]["command"]
    words = [word for word in command[3:] if not word.startswith("-")][:1] if name == "cloud" else []
    done = subprocess.run(
        [sys.executable, "-m", command[2], *words, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for option in (word for word in command if word.startswith("--")):
        assert option in done.stdout


def test_every_setting_is_one_the_cloud_reads() -> None:
    names = [
        name for service in OURS for name in COMPOSE["services"][service].get("environment", {}) if name.startswith("GIPOS_")
    ]
    assert names
    assert all(name.removeprefix("GIPOS_").lower() in Settings.model_fields for name in names)


def test_secrets_come_from_outside_and_have_no_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    settings = [value for service in COMPOSE["services"].values() for value in service.get("environment", {}).items()]
    secret = [value for name, value in settings if "PASSWORD" in name or "URL" in name]
    assert secret
    assert all("${GIPOS_POSTGRES_PASSWORD:?" in value for value in secret)
    assert not re.search(r"\$\{[A-Z_]+(:-|\})", text)


def test_every_service_has_a_health_check_and_waits_for_a_healthy_one() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"postgres", *OURS}
    assert all("healthcheck" in service for service in services.values())
    waits = {name: service["depends_on"] for name, service in services.items() if "depends_on" in service}
    assert waits == {
        "cloud": {"postgres": {"condition": "service_healthy"}},
        "gateway": {"cloud": {"condition": "service_healthy"}},
    }


def test_the_image_copies_only_what_exists_and_does_not_run_as_root() -> None:
    copied = [line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert {"requirements.lock", "protos", "kernel", "cloud", "gateway_rest", "host", "docs", "scripts"} == set(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert DOCKERFILE.rindex("USER gipos") > DOCKERFILE.rindex("FROM ")
