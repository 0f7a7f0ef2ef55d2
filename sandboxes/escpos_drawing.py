"""Paper as a picture: draws what `escpos_paper` understood, dot for dot at 203 dpi, with no font of the system."""

from __future__ import annotations

import io
from functools import lru_cache

import segno
from PIL import Image, ImageDraw, ImageFont

from sandboxes.escpos_paper import PRINTABLE_DOTS, Alignment, Cell, Feed, Paper, Picture, QrCode, TextLine

DOTS_PER_MM = 8
_EDGE = 24
"""White above and below, in dots."""
_FINE = 8
"""Glyphs are drawn so many times larger than they are burnt."""
_DARKEST_WHITE = 140


def draw(paper: Paper) -> bytes:
    """The paper as a PNG."""
    printable = PRINTABLE_DOTS[paper.width_mm]
    width = paper.width_mm * DOTS_PER_MM
    pieces = [_piece(element, printable) for element in paper.elements]
    height = 2 * _EDGE + sum(piece.height for piece in pieces)
    sheet = Image.new("1", (width, height), 1)
    top = _EDGE
    for piece in pieces:
        sheet.paste(piece, ((width - printable) // 2, top))
        top += piece.height
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True, dpi=(203, 203))
    return out.getvalue()


def _piece(element: TextLine | Picture | QrCode | Feed, printable: int) -> Image.Image:
    """One element across the whole printable width."""
    if isinstance(element, Feed):
        return Image.new("1", (printable, element.dots), 1)
    if isinstance(element, TextLine):
        return _text_line(element, printable)
    drawn = _qr_code(element) if isinstance(element, QrCode) else _picture(element)
    piece = Image.new("1", (printable, drawn.height), 1)
    piece.paste(drawn, (_left(element.alignment, drawn.width, printable), 0))
    return piece


def _left(alignment: Alignment, width: int, printable: int) -> int:
    return {"left": 0, "centre": (printable - width) // 2, "right": printable - width}[alignment]


def _text_line(line: TextLine, printable: int) -> Image.Image:
    tallest = max((24 * cell.height for cell in line.cells), default=24)
    piece = Image.new("1", (printable, max(line.spacing, tallest + (6 if tallest > 24 else 0))), 1)
    x = _left(line.alignment, sum(cell.dots for cell in line.cells), printable)
    for cell in line.cells:
        glyph = _glyph(cell)
        piece.paste(glyph, (x, tallest - glyph.height))
        x += cell.dots
    return piece


@lru_cache(maxsize=2048)
def _glyph(cell: Cell) -> Image.Image:
    """A character in its cell: the font that comes with Pillow, narrowed where it is too wide for a column."""
    cell_width, cell_height = (9, 17) if cell.small else (12, 24)
    fine = cell_height * _FINE
    font = _font(fine * 0.86)
    left, _, right, _ = font.getbbox(cell.character, anchor="ls")
    drawn = Image.new("L", (max(1, int(right - left)), fine), 255)
    ImageDraw.Draw(drawn).text((-left, fine * 0.76), cell.character, font=font, fill=0, anchor="ls", stroke_width=_stroke(cell))
    # One column stays free between letters; the lines of a frame must touch.
    room = cell_width if "\u2500" <= cell.character <= "\u259f" else cell_width - 1
    width = min(max(1, round(drawn.width / _FINE)), room)
    narrowed = drawn.resize((width, cell_height), Image.Resampling.BOX)
    grey = Image.new("L", (cell_width, cell_height), 255)
    grey.paste(narrowed, ((cell_width - width) // 2, 0))
    glyph = grey.point(lambda shade: 255 if shade > _DARKEST_WHITE else 0, "1")
    glyph = glyph.resize((cell_width * cell.width, cell_height * cell.height), Image.Resampling.NEAREST)
    if cell.underlined:
        ImageDraw.Draw(glyph).line((0, glyph.height - 1, glyph.width, glyph.height - 1), fill=0)
    return glyph.point(lambda dot: 0 if dot else 255, "1") if cell.inverted else glyph


def _stroke(cell: Cell) -> float:
    return _FINE * (0.55 if cell.bold else 0.2)


@lru_cache(maxsize=4)
def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _picture(picture: Picture) -> Image.Image:
    size = (picture.width, picture.height)
    expected = picture.width // 8 * picture.height
    data = bytes(byte ^ 0xFF for byte in picture.data[:expected].ljust(expected, b"\0"))
    return Image.frombytes("1", size, data)


def _qr_code(code: QrCode) -> Image.Image:
    try:
        symbol = segno.make_qr(code.text, error=code.level, boost_error=False)
    except segno.DataOverflowError:
        return Image.new("1", (1, 1), 1)  # too much for its level; a real printer prints nothing either
    rows = [bytes(row) for row in symbol.matrix_iter(scale=code.dots, border=0)]
    drawn = Image.new("1", (len(rows[0]), len(rows)), 1)
    drawn.putdata([0 if dot else 255 for row in rows for dot in row])
    return drawn
