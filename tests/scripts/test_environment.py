"""Making the environment on a machine that has little: real virtual environments in throwaway folders, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import environment
from scripts.environment import Environment, SetupFailed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, with a space in its path, whose lock files ask for nothing."""
    root = tmp_path / "my checkout"
    (root / "protos").mkdir(parents=True)
    (root / "requirements.lock").write_text("# nothing\n")
    (root / "requirements-dev.lock").write_text("# nothing, and for developers\n")
    return root


def imports(made: Environment, module: str) -> bool:
    return subprocess.run([made.python, "-I", "-c", f"import {module}"], check=False, stderr=subprocess.DEVNULL).returncode == 0


def test_an_environment_is_made_once_and_knows_the_checkout(checkout: Path) -> None:
    (checkout / "ours.py").touch()
    (checkout / "protos" / "generated.py").touch()
    made = Environment(checkout)
    made.prepare("runtime")
    assert imports(made, "pip")
    assert imports(made, "ours")
    assert imports(made, "generated")
    assert made.is_current("runtime")
    assert not made.is_current("dev")
    before = made.python.lstat().st_ctime_ns
    made.prepare("dev")
    assert made.is_current("runtime")
    assert made.is_current("dev")
    assert made.python.lstat().st_ctime_ns == before


def test_a_changed_lock_file_is_installed_again(checkout: Path) -> None:
    made = Environment(checkout)
    made.prepare("runtime")
    (checkout / "requirements.lock").write_text("# something else\n")
    assert not made.is_current("runtime")
    made.prepare("runtime")
    assert made.is_current("runtime")


def test_an_install_that_was_interrupted_begins_anew(checkout: Path) -> None:
    made = Environment(checkout)
    made.prepare("runtime")
    (made.folder / "gipos-unfinished").touch()
    (made.folder / "gipos-stamp.json").unlink()
    (made.folder / "half").touch()
    made.prepare("runtime")
    assert made.is_current("runtime")
    assert not (made.folder / "half").exists()


def test_a_checkout_that_was_moved_gets_a_new_environment(checkout: Path) -> None:
    Environment(checkout).prepare("runtime")
    moved = Environment(checkout.rename(checkout.with_name("moved")))
    assert not moved.is_current("runtime")
    moved.prepare("runtime")
    assert str(moved.folder) in (moved.folder / "bin" / "activate").read_text()


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Path) -> None:
    made = Environment(checkout)
    made.prepare("runtime")
    for link in (made.folder / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/nowhere/python3")
    made.prepare("runtime")
    assert imports(made, "pip")


def test_two_commands_at_once_make_one_environment(checkout: Path) -> None:
    program = "import sys, pathlib, scripts.environment as e; e.Environment(pathlib.Path(sys.argv[1])).prepare('dev')"
    command = [sys.executable, "-c", program, str(checkout)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sum("Making the environment" in error for error in errors) == 1
    assert Environment(checkout).is_current("dev")


def test_packages_that_cannot_be_had_end_in_one_sentence(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (checkout / "requirements.lock").write_text(f"no-such-thing==1.0 --hash=sha256:{'0' * 64}\n")
    made = Environment(checkout)
    with pytest.raises(SetupFailed, match="no build for this machine"):
        made.prepare("runtime")
    assert "no-such-thing" in capsys.readouterr().err
    assert not made.is_current("runtime")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("Failed to establish a new connection: NewConnectionError(...)", "cannot be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "was locked"),
        ("ERROR: something quite new", "the lines above"),
    ],
)
def test_what_pip_says_becomes_one_sentence(output: str, words: str) -> None:
    assert words in environment._trouble(output)


def test_the_callers_pip_settings_cannot_send_packages_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_PROXY", "kept")
    settings = environment._pip_environment()
    assert "PIP_TARGET" not in settings
    assert settings["PIP_USER"] == "0"
    assert settings["PIP_PROXY"] == "kept"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a pip wheel; its apt and dpkg are the two scripts a test writes into the folder returned."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setattr(environment, "_pip_wheel_here", lambda: None)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return tools


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_without_pip_debians_wheel_is_fetched_and_unpacked_without_root(checkout: Path, bare: Path) -> None:
    wheel = bare / "pip-23.0.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pip/__init__.py", "")
        archive.writestr("pip/__main__.py", "")
    # The system has no package lists: only after an update into lists of our own is the package found.
    script(
        bare / "apt-get",
        f'case "$*" in *Dir::State=*update) touch {bare}/updated;; *update) exit 100;; '
        f"*download*) test -e {bare}/updated && touch python3-pip-whl_23_all.deb;; esac",
    )
    script(bare / "dpkg-deb", f'mkdir -p "$3/usr/share/python-wheels" && cp {wheel} "$3/usr/share/python-wheels"')
    made = Environment(checkout)
    made.prepare("runtime")
    assert imports(made, "pip")


def test_without_pip_and_without_a_way_to_get_it_the_package_to_install_is_named(checkout: Path, bare: Path) -> None:
    script(bare / "apt-get", "exit 100")
    script(bare / "dpkg-deb", "exit 1")
    with pytest.raises(SetupFailed, match="python3-venv"):
        Environment(checkout).prepare("runtime")


def test_a_folder_one_may_not_write_in_is_named(checkout: Path) -> None:
    if os.geteuid() == 0:
        shutil.rmtree(checkout / "protos")
        (checkout / ".venv").write_text("in the way")
        with pytest.raises(SetupFailed, match="cannot be made"):
            Environment(checkout).prepare("runtime")
    else:
        checkout.chmod(0o500)
        with pytest.raises(SetupFailed, match="another account"):
            Environment(checkout).prepare("runtime")
        checkout.chmod(0o700)


@pytest.mark.parametrize("command", ["up", "down"])
def test_help_needs_no_environment(command: str, tmp_path: Path) -> None:
    bare_checkout = tmp_path / "bare"
    shutil.copytree(ROOT / "scripts", bare_checkout / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "cloud" / "platform", bare_checkout / "cloud" / "platform", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "cloud" / "__init__.py", bare_checkout / "cloud")
    done = subprocess.run(
        [bare_checkout / "scripts" / command, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: scripts/{command}" in done.stdout
    assert not (bare_checkout / ".venv").exists()


def test_a_python_of_the_wrong_age_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        script(tmp_path / name, "exit 1")
    done = subprocess.run(
        [ROOT / "scripts" / "up"], capture_output=True, text=True, check=False, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr
