"""Pictures for the functions that read and classify them: drawn here, so that a load test needs no files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

PAGES: tuple[tuple[str, ...], ...] = (
    ("INVOICE 2026-0417", "Bottled water 1.5L 40 x $0.89", "Paper towels 12 x $2.35", "TOTAL $63.80"),
    ("Deliveries between seven and eight",),
    ("Gate code 4711", "Fork lift needed", "Three pallets are heavy"),
)
"""Lines of text, a page each."""


@cache
def page(lines: Sequence[str]) -> bytes:
    """Lines below each other, black on white, as PNG."""
    picture = Image.new("RGB", (640, 40 + 55 * len(lines)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(24)
    for row, line in enumerate(lines):
        draw.text((30, 20 + 55 * row), line, fill="black", font=font)
    return _png(picture)


@cache
def traffic_light() -> bytes:
    """Red, amber and green in a dark box before a blue sky."""
    picture = Image.new("RGB", (300, 300), (120, 170, 220))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((143, 240, 157, 300), fill=(60, 60, 60))
    draw.rounded_rectangle((100, 20, 200, 250), 18, fill=(25, 25, 25))
    for row, colour in enumerate(((230, 40, 30), (90, 70, 10), (10, 70, 30))):
        draw.ellipse((122, 34 + 70 * row, 178, 90 + 70 * row), fill=colour)
    return _png(picture)


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
