"""The encoder, by the bytes that printers' manuals give, and read back by the interpreter."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from edge.hardware.printers import rasters
from edge.hardware.printers.escpos import FLUSH, FLUSH_SIZE, EscPos, status_request
from sandboxes.escpos_paper import Picture, QrCode, interpret


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda job: job.init(), "1b 40 1c 2e 1b 74 00"),
        (lambda job: job.text("Rp"), "52 70"),
        (lambda job: job.line("a"), "61 0a"),
        (lambda job: job.bold("a"), "1b 45 01 61 1b 45 00"),
        (lambda job: job.double("a"), "1d 21 11 61 1d 21 00"),
        (lambda job: job.double("a", width=False), "1d 21 01 61 1d 21 00"),
        (lambda job: job.double("a", height=False, bold=True), "1d 21 10 1b 45 01 61 1b 45 00 1d 21 00"),
        (lambda job: job.align("centre").align("right").align("left"), "1b 61 01 1b 61 02 1b 61 00"),
        (lambda job: job.feed(4), "1b 64 04"),
        (lambda job: job.cut(), "1d 56 01"),
        (lambda job: job.kick_drawer(), "1b 70 00 19 fa"),
        (lambda job: job.fence(), "1d 72 01"),
        (
            lambda job: job.qr("ab", dots=5, level="H"),
            (
                "1d 28 6b 04 00 31 41 32 00 1d 28 6b 03 00 31 43 05 1d 28 6b 03 00 31 45 33"
                " 1d 28 6b 05 00 31 50 30 61 62 1d 28 6b 03 00 31 51 30"
            ),
        ),
        (lambda job: job.image(rasters.Raster(1, 2, b"\x80\x01")), "1d 76 30 00 01 00 02 00 80 01"),
    ],
)
def test_commands_are_those_of_the_manual(build: Callable[[EscPos], EscPos], expected: str) -> None:
    assert bytes(build(EscPos())).hex(" ") == expected


def test_status_is_asked_in_real_time() -> None:
    assert status_request(4) == b"\x10\x04\x04"


def test_characters_the_printer_lacks_are_reported() -> None:
    job = EscPos().line("Kopi ☕ é")
    assert bytes(job) == b"Kopi ? e\n"
    assert job.lost == {"☕"}


def test_the_code_page_is_chosen_by_its_number() -> None:
    assert bytes(EscPos("cp858").init()).endswith(b"\x1bt\x13")
    with pytest.raises(KeyError):
        EscPos("utf-8")


@pytest.mark.parametrize("text", ["", "x" * 1001])
def test_a_qr_code_of_no_or_too_much_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 1,000 bytes"):
        EscPos().qr(text)


def test_a_long_qr_code_has_its_length_in_two_bytes() -> None:
    paper = interpret(bytes(EscPos().qr("y" * 700, dots=2)))
    assert [element.text for element in paper.elements if isinstance(element, QrCode)] == ["y" * 700]
    assert paper.warnings == []


def png_of(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_a_tall_picture_is_sliced_so_that_a_flush_can_complete_each_slice() -> None:
    raster = rasters.from_png(png_of(Image.new("L", (576, 400), 0)), 576, max_height=400)
    paper = interpret(bytes(EscPos().image(raster)), 80)
    slices = [element for element in paper.elements if isinstance(element, Picture)]
    assert sum(piece.height for piece in slices) == 400
    assert all(len(piece.data) <= FLUSH_SIZE for piece in slices)
    assert b"".join(piece.data for piece in slices) == raster.data
    assert FLUSH.startswith(bytes(FLUSH_SIZE))


def test_a_picture_keeps_its_black_and_its_transparency_is_white() -> None:
    image = Image.new("RGBA", (16, 2), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 2))
    assert rasters.from_png(png_of(image), 384) == rasters.Raster(2, 2, b"\xff\x00\xff\x00")


def test_a_wide_picture_shrinks_to_the_paper_and_a_small_one_keeps_its_size() -> None:
    wide = rasters.from_png(png_of(Image.new("L", (1000, 200), 0)), 384)
    assert (wide.row_bytes, wide.height) == (48, 76)
    small = rasters.from_png(png_of(Image.new("L", (10, 3), 0)), 384)
    assert (small.row_bytes, small.height) == (2, 3)


@pytest.mark.parametrize("png", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(40), png_of(Image.new("1", (100, 100)))[:45]])
def test_what_is_no_png_is_refused(png: bytes) -> None:
    with pytest.raises(ValueError, match="not a PNG"):
        rasters.from_png(png, 384)


def test_a_huge_picture_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(ValueError, match="pixels"):
        rasters.from_png(png_of(Image.new("1", (3000, 3000))), 384)
