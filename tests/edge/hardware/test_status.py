"""What printers answer, by the bits in their manuals."""

from __future__ import annotations

import pytest

from edge.hardware.printers.status import Problem, Replies, Reply, ReplyKind, problem_of


@pytest.mark.parametrize(
    ("printer", "cause", "paper", "problem"),
    [
        (0x12, 0x12, 0x12, Problem.NONE),
        (0x16, 0x12, 0x12, Problem.NONE),  # drawer open
        (0x12, 0x12, 0x1E, Problem.NONE),  # near end: prints on
        (0x1A, 0x32, 0x7E, Problem.PAPER),
        (0x12, None, 0x72, Problem.PAPER),
        (0x1A, 0x16, 0x12, Problem.COVER),
        (0x1A, 0x36, 0x7E, Problem.COVER),  # an open cover is what a person sees first
        (0x1A, 0x12, 0x12, Problem.OFFLINE),
        (0x12, 0x52, 0x12, Problem.OFFLINE),
        (0x1A, None, None, Problem.OFFLINE),
        (0x12, None, None, Problem.NONE),
    ],
)
def test_status_bits_say_what_is_wrong(printer: int, cause: int | None, paper: int | None, problem: Problem) -> None:
    assert problem_of(printer, cause, paper) is problem


@pytest.mark.parametrize(
    ("stream", "replies"),
    [
        (b"\x12", [Reply(ReplyKind.STATUS, b"\x12")]),
        (b"\x7e\x1a", [Reply(ReplyKind.STATUS, b"\x7e"), Reply(ReplyKind.STATUS, b"\x1a")]),
        (b"\x00\x03", [Reply(ReplyKind.FENCE, b"\x00"), Reply(ReplyKind.FENCE, b"\x03")]),
        (b"\x18\x00\x0c\x00\x00", [Reply(ReplyKind.PUSHED, b"\x18\x00\x0c\x00"), Reply(ReplyKind.FENCE, b"\x00")]),
        (b"_TM-T82X\x00\x12", [Reply(ReplyKind.BLOCK, b"_TM-T82X"), Reply(ReplyKind.STATUS, b"\x12")]),
        (b"\x11\x13\x00", [Reply(ReplyKind.FENCE, b"\x00")]),  # XON, XOFF
        (b"\x10\xff\xff\xff\x12", [Reply(ReplyKind.STATUS, b"\x12")]),
    ],
)
def test_the_stream_falls_into_replies_however_it_is_cut(stream: bytes, replies: list[Reply]) -> None:
    assert Replies().receive(stream) == replies
    decoder = Replies()
    assert [reply for byte in stream for reply in decoder.receive(bytes((byte,)))] == replies
