"""Pictures for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw, ImageFont


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A file of that format."""
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def written(
    lines: Sequence[str], *, size: tuple[int, int] = (640, 260), height: int = 24
) -> Image.Image:
    """Black on white, a line below the other, in the font that Pillow brings."""
    picture = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(height)
    for row, line in enumerate(lines):
        draw.text((30, 20 + 55 * row), line, fill="black", font=font)
    return picture
