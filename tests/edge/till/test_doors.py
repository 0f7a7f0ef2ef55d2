from __future__ import annotations

import pytest

from edge.till.doors import is_loopback


@pytest.mark.parametrize("authority", ["127.0.0.1", "127.0.0.1:8091", "localhost", "LOCALHOST:80", "[::1]:8091"])
def test_this_machine_is_let_in(authority: str) -> None:
    assert is_loopback(authority)


@pytest.mark.parametrize(
    "authority",
    ["", "evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "evil@localhost", "127.0.0.1:x", "[::1", "10.0.0.1"],
)
def test_any_other_name_is_kept_out(authority: str) -> None:
    assert not is_loopback(authority)
