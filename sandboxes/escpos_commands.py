"""A stream of ESC/POS bytes cut into commands. Says where each ends; what it does is the business of `escpos_paper`.

Written from the printer makers' manuals, apart from every encoder, so that it can judge them.
"""

from __future__ import annotations

from dataclasses import dataclass

_ESC = {
    2: b"@2Liv<mS",
    3: b"!adeEGJMtRV-3{ rTU=?u%&",
    4: b"$\\cB",
    5: b"p",
    10: b"W",
}
_GS = {2: b":", 3: b"!wHhfBraIbTxz/", 4: b"LWP\\$", 5: b"^"}
_FS = {2: b".&", 3: b"!-CW", 4: b"Sp"}
_FIXED: dict[int, dict[int, int]] = {
    lead: {letter: size for size, letters in table.items() for letter in letters}
    for lead, table in ((0x1B, _ESC), (0x1D, _GS), (0x1C, _FS))
}
_DLE_SIZES = {0x04: 3, 0x05: 3, 0x14: 5}


@dataclass(frozen=True)
class Command:
    """One command, or one run of text."""

    raw: bytes

    @property
    def is_text(self) -> bool:
        """Whether these are characters to print."""
        return self.raw[0] >= 0x20

    @property
    def is_real_time(self) -> bool:
        """Whether it is obeyed on arrival, even while printing is stopped."""
        return self.raw[0] == 0x10

    @property
    def name(self) -> bytes:
        """What kind of command it is: one byte for controls, two for the rest."""
        return self.raw[:1] if self.raw[0] not in {0x10, 0x1B, 0x1C, 0x1D} else self.raw[:2]


class CommandParser:
    """Keeps what is incomplete until more arrives, as a printer does, over connections."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Command]:
        """The commands that are complete now."""
        self._pending += data
        commands = []
        start = 0
        while start < len(self._pending):
            size = _size(self._pending, start)
            if size is None or start + size > len(self._pending):
                break
            commands.append(Command(bytes(self._pending[start : start + size])))
            start += size
        del self._pending[:start]
        return commands

    @property
    def waits_for_more(self) -> bool:
        """Whether a command began and did not end."""
        return bool(self._pending)


def _size(data: bytearray, start: int) -> int | None:
    """The length of the command that begins here, None when that is not known yet."""
    lead = data[start]
    if lead >= 0x20:
        end = start
        while end < len(data) and data[end] >= 0x20:
            end += 1
        return end - start
    if lead not in {0x10, 0x1B, 0x1C, 0x1D}:
        return 1
    if start + 1 >= len(data):
        return None
    letter = data[start + 1]
    if lead == 0x10:
        return _DLE_SIZES.get(letter, 2)
    fixed = _FIXED[lead].get(letter)
    if fixed is not None:
        return fixed
    head = bytes(data[start : start + 8])
    if lead == 0x1B:
        return _esc_size(data, start, head)
    if lead == 0x1D:
        return _gs_size(data, start, head)
    return 5 + head[3] + 256 * head[4] if letter == ord("(") and len(head) >= 5 else _short(letter, b"(")


def _short(letter: int, variable: bytes) -> int | None:
    """None while the length of a variable command has not arrived; unknown commands are taken as two bytes."""
    return None if letter in variable else 2


def _esc_size(data: bytearray, start: int, head: bytes) -> int | None:
    letter = head[1]
    if letter == ord("D"):
        end = data.find(0, start + 2)
        return end + 1 - start if end >= 0 else None
    if letter == ord("*") and len(head) >= 5:
        return 5 + (head[3] + 256 * head[4]) * (3 if head[2] in {32, 33} else 1)
    return _short(letter, b"*")


def _gs_size(data: bytearray, start: int, head: bytes) -> int | None:
    letter = head[1]
    if letter == ord("V") and len(head) >= 3:
        return 3 if head[2] in {0, 1, 48, 49} else 4
    if letter == ord("(") and len(head) >= 5:
        return 5 + head[3] + 256 * head[4]
    if letter == ord("8") and len(head) >= 7:
        return 7 + int.from_bytes(head[3:7], "little")
    if letter == ord("v") and len(head) >= 8:
        return 8 + int.from_bytes(head[4:6], "little") * int.from_bytes(head[6:8], "little")
    if letter == ord("*") and len(head) >= 4:
        return 4 + head[2] * head[3] * 8
    if letter == ord("k") and len(head) >= 3:
        if head[2] <= 6:
            end = data.find(0, start + 3)
            return end + 1 - start if end >= 0 else None
        return 4 + head[3] if len(head) >= 4 else None
    return _short(letter, b"V(8v*k")
