"""ESC/POS as bytes. Pure: builds the commands, sends nothing.

Sources: Epson ESC/POS command reference; Citizen CT-S280 manual for the drawer's duty cycle. One code page per job, never a
switch per character: the numbers of code pages differ between makers.
"""

from __future__ import annotations

from typing import Literal, Self

from edge.hardware.printers.rasters import Raster
from edge.hardware.printers.transliteration import transliterate

Alignment = Literal["left", "centre", "right"]

CODE_PAGES = {"cp437": 0, "cp850": 2, "cp1252": 16, "cp858": 19}
"""Epson's numbers, which clones follow."""

DRAWER_PULSE = b"\x1bp\x00\x19\xfa"
"""Pin 2, 50 ms on, 500 ms off: within the duty cycle of one fifth that solenoids stand."""
FENCE = b"\x1dr\x01"
"""GS r 1: answered with one byte when everything before it has been processed, in order."""
FLUSH_SIZE = 8192
FLUSH = bytes(FLUSH_SIZE) + b"\x1b@"
"""Ends a picture that was cut off: its missing dots come from the NULs, which a printer that waits for nothing ignores."""

_ALIGNMENTS: dict[Alignment, int] = {"left": 0, "centre": 1, "right": 2}
_QR_LEVELS = {"L": 48, "M": 49, "Q": 50, "H": 51}


def status_request(number: int) -> bytes:
    """DLE EOT n, answered at once, even offline: 1 printer, 2 why offline, 3 errors, 4 paper."""
    return bytes((0x10, 0x04, number))


class EscPos:
    """A job under construction. Every method appends commands and returns the job, so that calls chain."""

    def __init__(self, code_page: str = "cp437") -> None:
        self._code_page = code_page
        self._number = CODE_PAGES[code_page]
        self._parts: list[bytes] = []
        self._lost: set[str] = set()

    def __bytes__(self) -> bytes:
        """The job so far."""
        return b"".join(self._parts)

    @property
    def lost(self) -> frozenset[str]:
        """Characters of the texts that the printer does not have; "?" is printed for them."""
        return frozenset(self._lost)

    def init(self) -> Self:
        """Resets the style, leaves the two-byte mode that Chinese printers start in, and chooses the code page."""
        return self._add(b"\x1b@\x1c.\x1bt", bytes((self._number,)))

    def text(self, text: str) -> Self:
        """Text as it stands. Nothing comes out before a line feed."""
        plain, lost = transliterate(text, self._code_page)
        self._lost |= lost
        return self._add(plain.encode(self._code_page))

    def line(self, text: str = "") -> Self:
        """Text and a line feed."""
        self.text(text)
        return self._add(b"\n")

    def bold(self, text: str) -> Self:
        """Text in bold."""
        self._add(b"\x1bE\x01").text(text)
        return self._add(b"\x1bE\x00")

    def double(self, text: str, *, width: bool = True, height: bool = True, bold: bool = False) -> Self:
        """Text of twice the width, the height or both. Double width takes two columns per character."""
        self._add(b"\x1d!", bytes(((0x10 if width else 0) | (0x01 if height else 0),)))
        (self.bold if bold else self.text)(text)
        return self._add(b"\x1d!\x00")

    def align(self, alignment: Alignment) -> Self:
        """Where the following lines, pictures and codes go. Call it at the beginning of a line."""
        return self._add(b"\x1ba", bytes((_ALIGNMENTS[alignment],)))

    def feed(self, lines: int = 1) -> Self:
        """Empty lines, 0 to 255."""
        return self._add(b"\x1bd", bytes((lines,)))

    def cut(self) -> Self:
        """Cuts the paper here, leaving one point. Feed about five lines before: the knife sits above the head."""
        return self._add(b"\x1dV\x01")

    def qr(self, text: str, *, dots: int = 6, level: Literal["L", "M", "Q", "H"] = "M") -> Self:
        """The printer's own QR code, with squares of 1 to 16 dots.

        Raises:
            ValueError: more than 1,000 bytes; no scanner reads that from receipt paper.
        """
        stored = text.encode()
        if not stored or len(stored) > 1000:
            raise ValueError("A QR code on a receipt holds 1 to 1,000 bytes. Shorten the text.")
        size = len(stored) + 3
        return self._add(
            b"\x1d(k\x04\x001A2\x00",
            b"\x1d(k\x03\x001C" + bytes((dots,)),
            b"\x1d(k\x03\x001E" + bytes((_QR_LEVELS[level],)),
            b"\x1d(k" + bytes((size & 0xFF, size >> 8)) + b"1P0" + stored,
            b"\x1d(k\x03\x001Q0",
        )

    def image(self, raster: Raster) -> Self:
        """A picture, in slices that FLUSH can complete if the connection breaks inside one."""
        rows = min(255, FLUSH_SIZE // raster.row_bytes)
        for top in range(0, raster.height, rows):
            height = min(rows, raster.height - top)
            head = bytes((raster.row_bytes & 0xFF, raster.row_bytes >> 8, height & 0xFF, height >> 8))
            self._add(b"\x1dv0\x00", head, raster.data[top * raster.row_bytes : (top + height) * raster.row_bytes])
        return self

    def kick_drawer(self) -> Self:
        """Opens the cash drawer. Executed in order with the text, so it belongs at the beginning of a job."""
        return self._add(DRAWER_PULSE)

    def fence(self) -> Self:
        """Asks the printer to answer when it has processed everything before."""
        return self._add(FENCE)

    def _add(self, *parts: bytes) -> Self:
        self._parts.extend(parts)
        return self
