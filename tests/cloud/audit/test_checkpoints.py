"""The file of checkpoints after accidents: a crash in the middle of a line, a disk that takes only a part."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from cloud.audit import checkpoints
from cloud.audit.checkpoints import Head
from cloud.platform.keyring import Keyring

FIRST, SECOND = Head("ten_a", 1, b"1" * 32), Head("ten_a", 2, b"2" * 32)


def test_a_line_that_a_crash_cut_off_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    ring = Keyring.random()
    checkpoints.append(tmp_path, ring.current, [FIRST], "now")
    with (tmp_path / checkpoints.FILE).open("ab") as file:
        file.write(b'{"tenant_id": "ten_a", "seq')
    checkpoints.append(tmp_path, ring.current, [SECOND], "later")
    known = checkpoints.read(tmp_path, ring)
    assert known.of("ten_a") == {1: FIRST.hash, 2: SECOND.hash}
    assert (known.torn, known.forged) == ([2], [])


def test_a_disk_that_takes_a_part_only_is_an_error_and_not_a_checkpoint(tmp_path: Path) -> None:
    ring = Keyring.random()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # a write that crosses it is cut short, as on a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoints.append(tmp_path, ring.current, [FIRST], "now")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / checkpoints.FILE).stat().st_size == 100
    checkpoints.append(tmp_path, ring.current, [FIRST], "later")
    assert checkpoints.read(tmp_path, ring).of("ten_a") == {1: FIRST.hash}
