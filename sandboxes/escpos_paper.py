"""An ESC/POS interpreter: commands in, a piece of paper out, with its text, pictures, codes and events.

What it does not understand is reported in `warnings`, never skipped in silence. Shares nothing with any encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from sandboxes.escpos_commands import Command, CommandParser

Alignment = Literal["left", "centre", "right"]
PRINTABLE_DOTS = {58: 384, 80: 576}
"""Dots across the head at 203 dpi, by paper width in millimetres."""
LINE_SPACING = 30
_ALIGNMENTS: tuple[Alignment, ...] = ("left", "centre", "right")
_CODE_PAGES = {0: "cp437", 2: "cp850", 3: "cp860", 4: "cp863", 5: "cp865", 16: "cp1252", 17: "cp866", 18: "cp852", 19: "cp858"}
_QR_LEVELS = {48: "L", 49: "M", 50: "Q", 51: "H"}


@dataclass(frozen=True)
class Cell:
    """One character as it is burnt into the paper."""

    character: str
    width: int = 1
    height: int = 1
    bold: bool = False
    underlined: bool = False
    inverted: bool = False
    small: bool = False
    """Font B, 9 by 17 dots instead of 12 by 24."""

    @property
    def dots(self) -> int:
        """How much of the line it takes."""
        return (9 if self.small else 12) * self.width


@dataclass(frozen=True)
class TextLine:
    """One printed line."""

    cells: tuple[Cell, ...]
    alignment: Alignment
    spacing: int

    def text(self, columns: int) -> str:
        """As one reads it: wide characters take two columns, and the alignment shows."""
        text = "".join(cell.character + " " * (cell.width - 1) for cell in self.cells)
        if self.alignment == "centre":
            return (" " * ((columns - len(text)) // 2) + text).rstrip()
        return (text.rjust(columns) if self.alignment == "right" else text).rstrip()


@dataclass(frozen=True)
class Picture:
    """Dots: rows of whole bytes, most significant bit first, set is black."""

    width: int
    height: int
    data: bytes
    alignment: Alignment


@dataclass(frozen=True)
class QrCode:
    """A code that the printer draws itself."""

    text: str
    dots: int
    level: str
    alignment: Alignment


@dataclass(frozen=True)
class Feed:
    """Paper moved without printing."""

    dots: int


@dataclass
class Paper:
    """What came out, until it was torn off."""

    width_mm: int
    elements: list[TextLine | Picture | QrCode | Feed] = field(default_factory=list)
    events: list[dict[str, object]] = field(default_factory=list)
    """In order: drawer, cut, qr, image, barcode."""
    warnings: list[str] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    """The commands that made it."""

    @property
    def columns(self) -> int:
        """Characters of font A in a line."""
        return PRINTABLE_DOTS[self.width_mm] // 12

    @property
    def is_blank(self) -> bool:
        """Whether nothing is printed on it."""
        return all(isinstance(element, Feed) for element in self.elements)

    @property
    def text_lines(self) -> list[str]:
        """The printed lines, without the fed ones."""
        return [element.text(self.columns) for element in self.elements if isinstance(element, TextLine)]

    def of_kind(self, kind: str) -> list[dict[str, object]]:
        """The events of one kind."""
        return [event for event in self.events if event["kind"] == kind]


class Interpreter:
    """The state of a printer: style, position in the line, stored codes. `paper` is what hangs out of it."""

    def __init__(self, width_mm: int = 58) -> None:
        self.width_mm = width_mm
        self.dots = PRINTABLE_DOTS[width_mm]
        self.paper = Paper(width_mm)
        self._graphics: Picture | None = None
        self._qr = {"dots": 3, "level": 48}
        self._qr_text = b""
        self._reset()
        self._simple: dict[bytes, Callable[[bytes], None]] = {
            b"\x1b@": lambda _: self._reset(),
            b"\x1ba": lambda raw: self._align(raw[2]),
            b"\x1bd": lambda raw: self._feed(raw[2] * self._spacing),
            b"\x1bJ": lambda raw: self._feed(raw[2]),
            b"\x1bE": lambda raw: self._style(bold=bool(raw[2] & 1)),
            b"\x1bG": lambda raw: self._style(bold=bool(raw[2] & 1)),
            b"\x1b-": lambda raw: self._style(underlined=raw[2] in {1, 2, 49, 50}),
            b"\x1bM": lambda raw: self._style(small=raw[2] in {1, 49}),
            b"\x1b!": lambda raw: self._mode(raw[2]),
            b"\x1bt": lambda raw: self._choose_code_page(raw[2]),
            b"\x1b2": lambda _: self._space(LINE_SPACING),
            b"\x1b3": lambda raw: self._space(raw[2]),
            b"\x1bp": self._kick,
            b"\x1d!": lambda raw: self._style(width=(raw[2] >> 4 & 7) + 1, height=(raw[2] & 7) + 1),
            b"\x1dB": lambda raw: self._style(inverted=bool(raw[2] & 1)),
            b"\x1dV": self._cut,
            b"\x1dv": self._raster,
            b"\x1d(": self._extended,
            b"\x1d8": lambda raw: self._graphics_command(raw[7:]),
            b"\x1dk": lambda raw: self._event("barcode", data=raw[3:].decode("latin-1"), drawn=False),
            b"\x1c.": lambda _: None,  # this printer has no two-byte mode to leave
        }

    def execute(self, command: Command) -> None:
        """Obeys one command. Commands that only ask are the business of the connection and do nothing here."""
        raw, name = command.raw, command.name
        if raw == b"\0":
            return
        if not command.is_real_time and name not in {b"\x1dr", b"\x1dI", b"\x1da"}:
            self.paper.raw += raw
        if command.is_text:
            self._print(raw)
        elif raw == b"\n":
            self._end_line(even_if_empty=True)
        elif raw == b"\r":
            return
        elif name in self._simple:
            try:
                self._simple[name](raw)
            except IndexError:
                self._warn(f"command {raw[:8].hex(' ')} is too short for what it wants")
        elif not command.is_real_time and name not in {b"\x1dr", b"\x1dI", b"\x1da"}:
            self._warn(f"command {raw[:4].hex(' ')} is not understood")

    def tear_off(self) -> Paper:
        """The paper so far; the printer goes on with a fresh piece. Text without a line feed stays inside."""
        if self._line:
            text = "".join(cell.character for cell in self._line)
            self._warn(f"{len(text)} characters were not printed for want of a line feed: {text[:40]!r}")
        torn, self.paper = self.paper, Paper(self.width_mm)
        return torn

    def _reset(self) -> None:
        self._line: list[Cell] = []
        self._cell = Cell(" ")
        self._alignment: Alignment = "left"
        self._spacing = LINE_SPACING
        self._code_page = "cp437"

    def _event(self, kind: str, **facts: object) -> None:
        self.paper.events.append({"kind": kind, **facts})

    def _warn(self, text: str) -> None:
        self.paper.warnings.append(text)

    def _style(self, **changes: int | bool) -> None:
        self._cell = Cell(**{**self._cell.__dict__, **changes})

    def _mode(self, flags: int) -> None:
        self._style(
            small=bool(flags & 0x01),
            bold=bool(flags & 0x08),
            height=2 if flags & 0x10 else 1,
            width=2 if flags & 0x20 else 1,
            underlined=bool(flags & 0x80),
        )

    def _align(self, number: int) -> None:
        if self._line:
            self._warn("alignment in the middle of a line has no effect")
            return
        self._alignment = _ALIGNMENTS[number % 48] if number % 48 < 3 else "left"

    def _space(self, dots: int) -> None:
        self._spacing = dots

    def _choose_code_page(self, number: int) -> None:
        if number in _CODE_PAGES:
            self._code_page = _CODE_PAGES[number]
        else:
            self._warn(f"code page {number} is not installed")

    def _print(self, raw: bytes) -> None:
        for character in raw.decode(self._code_page, errors="replace"):
            cell = Cell(**{**self._cell.__dict__, "character": character})
            if sum(each.dots for each in self._line) + cell.dots > self.dots:
                self._end_line()
            self._line.append(cell)

    def _end_line(self, *, even_if_empty: bool = False) -> None:
        if self._line or even_if_empty:
            self.paper.elements.append(TextLine(tuple(self._line), self._alignment, self._spacing))
            self._line = []

    def _feed(self, dots: int) -> None:
        self._end_line()
        self.paper.elements.append(Feed(dots))

    def _kick(self, raw: bytes) -> None:
        self._event("drawer", pin=2 if raw[2] in {0, 48} else 5, on_ms=raw[3] * 2, off_ms=raw[4] * 2)

    def _cut(self, raw: bytes) -> None:
        self._end_line()
        if len(raw) == 4:
            self.paper.elements.append(Feed(raw[3]))
        self._event("cut", partial=raw[2] in {1, 49, 66})

    def _raster(self, raw: bytes) -> None:
        self._end_line()
        width, height = int.from_bytes(raw[4:6], "little") * 8, int.from_bytes(raw[6:8], "little")
        if raw[3] % 48:
            self._warn("a stretched picture is drawn in its own size")
        self._place(Picture(width, height, raw[8:], self._alignment))

    def _place(self, picture: Picture) -> None:
        if picture.width > self.dots:
            self._warn(f"a picture of {picture.width} dots is wider than the paper and loses its right edge")
        self.paper.elements.append(picture)
        self._event("image", width=picture.width, height=picture.height)

    def _extended(self, raw: bytes) -> None:
        if raw[2:3] == b"k":
            self._qr_command(raw[5:])
        elif raw[2:3] == b"L":
            self._graphics_command(raw[5:])
        elif raw[2:3] not in b"HE":
            self._warn(f"command {raw[:3].hex(' ')} is not understood")

    def _qr_command(self, body: bytes) -> None:
        if body[:1] != b"1":
            self._warn("only QR codes are drawn of the two-dimensional codes")
            return
        function = body[1]
        if function == 67:
            self._qr["dots"] = body[2]
        elif function == 69:
            self._qr["level"] = body[2]
        elif function == 80:
            self._qr_text = body[3:]
        elif function == 81:
            self._print_qr()
        elif function != 65:
            self._warn(f"QR function {function} is not understood")

    def _print_qr(self) -> None:
        self._end_line()
        text = self._qr_text.decode(errors="replace")
        # Level L of the largest code holds so much.
        if not 1 <= len(self._qr_text) <= 2953 or not 1 <= self._qr["dots"] <= 16:
            self._warn(f"a QR code of {len(self._qr_text)} bytes in squares of {self._qr['dots']} dots is not printed")
            return
        self.paper.elements.append(QrCode(text, self._qr["dots"], _QR_LEVELS.get(self._qr["level"], "L"), self._alignment))
        self._event("qr", text=text)

    def _graphics_command(self, body: bytes) -> None:
        if body[1] in {0x32, 2} and self._graphics is not None:
            self._end_line()
            self._place(self._graphics)
        elif body[1] == 0x70:
            width, height = int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")
            self._graphics = Picture((width + 7) // 8 * 8, height, body[10:], self._alignment)
        else:
            self._warn(f"graphics function {body[1]} is not understood")


def interpret(data: bytes, width_mm: int = 58) -> Paper:
    """The paper that a job makes."""
    interpreter = Interpreter(width_mm)
    parser = CommandParser()
    for command in parser.feed(data):
        interpreter.execute(command)
    if parser.waits_for_more:
        interpreter.paper.warnings.append("the job ends in the middle of a command")
    return interpreter.tear_off()
