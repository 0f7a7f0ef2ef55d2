"""Pictures as black and white dots for a receipt printer. Pure; refuses pictures that could not be a logo."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

MAX_PIXELS = 4_000_000
"""A logo is small; anything larger is a mistake or an attack on memory."""


@dataclass(frozen=True)
class Raster:
    """Rows of dots, eight per byte, most significant first; a set bit is black."""

    row_bytes: int
    height: int
    data: bytes


def from_png(png: bytes, max_width: int, max_height: int = 240) -> Raster:
    """A PNG on white, shrunk to fit (never enlarged) and dithered.

    Raises:
        ValueError: not a PNG, or larger than MAX_PIXELS.
    """
    # Imported here: Pillow costs 50 ms and most receipts carry no logo.
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise ValueError(f"The logo has more than {MAX_PIXELS} pixels. Use a smaller picture.")
                coloured = opened.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError("The logo is not a PNG picture that can be read. Use another file.") from error
    paper = Image.new("RGBA", coloured.size, "white")
    paper.alpha_composite(coloured)
    grey = paper.convert("L")
    scale = min(1.0, max_width / grey.width, max_height / grey.height)
    if scale < 1:
        grey = grey.resize((max(1, int(grey.width * scale)), max(1, int(grey.height * scale))), Image.Resampling.LANCZOS)
    row_bytes = (grey.width + 7) // 8
    padded = Image.new("L", (row_bytes * 8, grey.height), 255)
    padded.paste(grey, ((padded.width - grey.width) // 2, 0))
    dots = padded.convert("1", dither=Image.Dither.FLOYDSTEINBERG)
    # Pillow sets a bit for white, the printer for black.
    return Raster(row_bytes, dots.height, bytes(byte ^ 0xFF for byte in dots.tobytes()))
