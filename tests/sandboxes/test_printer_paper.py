"""The interpreter that judges our printing, by commands written out by hand."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sandboxes.escpos_commands import CommandParser
from sandboxes.escpos_drawing import draw
from sandboxes.escpos_paper import Feed, Picture, TextLine, interpret


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"Kopi\nTeh\n", ["Kopi", "Teh"]),
        (b"Kopi\r\n", ["Kopi"]),
        (b"\n", [""]),
        (b"\x1ba\x01mid\n", ["              mid"]),
        (b"\x1ba\x02end\n", ["                             end"]),
        (b"\x1d!\x11ab\n", ["a b"]),
        (b"a" * 33 + b"\n", ["a" * 32, "a"]),
        (b"\x1bM\x01" + b"a" * 43 + b"\n", ["a" * 42, "a"]),
        (b"caf\x82\n", ["caf\u00e9"]),
        (b"\x1bt\x10caf\xe9\n", ["caf\u00e9"]),
        (b"\x1b@\x1c.\x1bt\x00ok\n", ["ok"]),
        (b"no line feed\x1bd\x02", ["no line feed"]),
        (b"\0\0\0x\n", ["x"]),
        (b"\x10\x04\x01x\n", ["x"]),
    ],
)
def test_text_is_read_as_it_is_printed(data: bytes, lines: list[str]) -> None:
    paper = interpret(data)
    assert paper.text_lines == lines
    assert paper.warnings == []


def test_styles_are_kept_with_each_character() -> None:
    paper = interpret(b"\x1bE\x01b\x1bE\x00\x1b-\x01u\x1b-\x00\x1dB\x01i\x1dB\x00\x1d!\x21w\x1b!\x00n\n")
    (line,) = [element for element in paper.elements if isinstance(element, TextLine)]
    bold, underlined, inverted, wide, normal = line.cells
    assert bold.bold
    assert underlined.underlined
    assert inverted.inverted
    assert (wide.width, wide.height) == (3, 2)
    assert (normal.bold, normal.underlined, normal.width, normal.height) == (False, False, 1, 1)


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (b"\x1bp\x00\x19\xfa", {"kind": "drawer", "pin": 2, "on_ms": 50, "off_ms": 500}),
        (b"\x1bp1\x19\xfa", {"kind": "drawer", "pin": 5, "on_ms": 50, "off_ms": 500}),
        (b"\x1dV\x00", {"kind": "cut", "partial": False}),
        (b"\x1dV\x01", {"kind": "cut", "partial": True}),
        (b"\x1dVB\x20", {"kind": "cut", "partial": True}),
        (b"\x1dv0\x00\x01\x00\x02\x00\x80\x01", {"kind": "image", "width": 8, "height": 2}),
        (b"\x1dkI\x05{Babc", {"kind": "barcode", "data": "\x05{Babc", "drawn": False}),
    ],
)
def test_events_are_recorded(data: bytes, event: dict[str, object]) -> None:
    assert interpret(data).events == [event]


def test_a_qr_code_is_stored_printed_and_can_be_scanned() -> None:
    stored = b"\x1d(k\x0a\x001P0scan me"
    paper = interpret(b"\x1ba\x01\x1d(k\x03\x001C\x04" + stored + b"\x1d(k\x03\x001Q0")
    assert paper.events == [{"kind": "qr", "text": "scan me"}]
    assert [code.text for code in zxingcpp.read_barcodes(Image.open(io.BytesIO(draw(paper))))] == ["scan me"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x1d8L\x0c\x00\x00\x000p0\x01\x011\x08\x00\x02\x00\x80\x01\x1d(L\x02\x000\x32",
        b"\x1d(L\x0c\x000p0\x01\x011\x08\x00\x02\x00\x80\x01\x1d(L\x02\x000\x32",
        b"\x1dv0\x00\x01\x00\x02\x00\x80\x01",
    ],
)
def test_a_picture_is_the_same_by_every_command(data: bytes) -> None:
    (picture,) = interpret(data).elements
    assert picture == Picture(8, 2, b"\x80\x01", "left")
    image = Image.open(io.BytesIO(draw(interpret(data))))
    assert [image.getpixel((40, 24)), image.getpixel((41, 24)), image.getpixel((47, 25))] == [0, 255, 0]


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (b"\x1b\xfe", "not understood"),
        (b"\x07\n", "not understood"),
        (b"\x1bt\x63", "code page 99"),
        (b"left over", "want of a line feed"),
        (b"x\x1ba\x01\n", "middle of a line"),
        (b"\x1d(k\x03\x001Q0", "QR code of 0 bytes"),
        (b"\x1dv0\x00\xff\x00\x01\x00" + bytes(255), "wider than the paper"),
        (b"\x1dv0\x00\x01\x00\x02\x00\x80", "middle of a command"),
        (b"\x1d(k\x01\x001", "too short"),
    ],
)
def test_what_is_not_right_is_reported(data: bytes, warning: str) -> None:
    assert any(warning in each for each in interpret(data).warnings)


def test_feeding_moves_the_paper_and_alone_leaves_it_blank() -> None:
    paper = interpret(b"\x1bd\x02\x1bJ\x07")
    assert paper.elements == [Feed(60), Feed(7)]
    assert paper.is_blank


FRAGMENTS = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [
                b"\x1b",
                b"\x1d",
                b"\x1d(k",
                b"\x1d(L",
                b"\x1d8L",
                b"\x1dv0\x00",
                b"\x03\x001Q0",
                b"\x1d(k\x05\x001P0ab",
                b"\x1dk",
                b"\x1b*",
                b"\n",
            ]
        ),
    ),
    max_size=30,
).map(b"".join)


@settings(deadline=None)
@given(FRAGMENTS)
def test_no_bytes_break_the_printer(data: bytes) -> None:
    for width in (58, 80):
        image = Image.open(io.BytesIO(draw(interpret(data, width))))
        assert image.width == width * 8


@given(FRAGMENTS, st.lists(st.integers(0, 200)))
def test_commands_do_not_depend_on_how_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    whole = b"".join(command.raw for command in CommandParser().feed(data))
    assert data.startswith(whole)
    parser = CommandParser()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    commands = [command for start, end in pairwise(edges) for command in parser.feed(data[start:end])]
    assert b"".join(command.raw for command in commands) == whole
    texts = [[each.raw for each in group if not each.is_text] for group in (commands, CommandParser().feed(data))]
    assert texts[0] == texts[1]
