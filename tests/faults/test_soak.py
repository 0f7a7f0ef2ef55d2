"""The fault suite itself: real processes, a fixed seed, every kind of fault at least once; and proof that it can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.soaking import mutants, namespaces
from scripts.soaking.plans import NAMES

ROOT = Path(__file__).resolve().parents[2]
SEED = 20
CAUGHT_QUICKLY = ("number-outside", "credit-ignored")
"""Planted faults of the tablet and of the way down that show within seconds; `scripts/soak --mutant` tries any other."""


def soak(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "scripts.soaking", *arguments]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path)}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=290, check=False)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that other accounts may enter, for the database. Skips where there are no namespaces."""
    if why := namespaces.problem():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("soak")
    for parent in (folder, *folder.parents[:2]):
        if parent.owner() == folder.owner() and parent != Path("/tmp"):
            parent.chmod(0o755)
    return folder


@pytest.mark.timeout(300)
def test_whatever_fails_nothing_is_lost_doubled_or_out_of_order(short: Path) -> None:
    done = soak(short, "--packed", "--seed", str(SEED))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    seen = {line.split()[0] for line in done.stdout.splitlines() if re.match(r"[a-z-]+ +[0-9]+ +[0-9.]+ s", line)}
    assert seen == set(NAMES)
    assert "0 lost, 0 doubled, 0 out of order" in done.stdout
    assert not list(short.glob("gipos-soak-*")), "a soak that found nothing leaves nothing behind"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CAUGHT_QUICKLY)
def test_a_planted_fault_is_caught_and_named(short: Path, name: str) -> None:
    done = soak(short, "--mutant", name, "--seed", str(SEED))
    assert done.returncode == 1, done.stdout[-6000:] + done.stderr[-3000:]
    sentence = done.stdout.split("facts by REST\n", 1)[1].strip().splitlines()[0]
    assert re.search(r"have gaps|credit is", sentence), done.stdout[-3000:]
    assert f"again: scripts/soak --seed {SEED} --mutant {name}" in done.stdout


def test_every_mutant_fits_the_product_as_it_is(tmp_path: Path) -> None:
    assert len(mutants.ALL) >= 64
    for mutant in mutants.ALL:
        for change in mutant.changes:
            path = tmp_path / mutant.name / change.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((ROOT / change.file).read_text())
        mutants.plant(mutant, tmp_path / mutant.name)
        for change in mutant.changes:
            compile((tmp_path / mutant.name / change.file).read_text(), change.file, "exec")


def test_a_mutant_whose_place_is_gone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("pass\npass\n")
    gone = mutants.Mutant("gone", "is gone", (mutants.Change("one.py", "pass", "fail"),))
    with pytest.raises(mutants.NotApplicable, match="2 times"):
        mutants.plant(gone, tmp_path)


def test_mutants_are_listed_with_what_they_do(tmp_path: Path) -> None:
    done = soak(tmp_path, "--list-mutants")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [mutant.name for mutant in mutants.ALL]
    assert soak(tmp_path, "--mutant", "no-such-thing").returncode == 2
