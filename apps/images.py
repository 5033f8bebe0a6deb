"""A picture out of bytes that a stranger sent: few formats, bounded before and after it is decoded,
upright, on white.

What a picture costs in memory is bounded by what it is made of, not by the bytes that claim it: one
of more than ``KEPT_PIXELS`` is made smaller while it is decoded (JPEG) or right after, a strip at a
time, and one such picture is decoded at a time in a process. What decoding takes is reserved before
it begins, with the bodies of all calls (``limits.max_ongoing_bytes``).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from wakeful import RequestError, reserve

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS: Final = 40_000_000
"""Of a picture: 160 MB while it is decoded. A few bytes can claim any size."""

KEPT_PIXELS: Final = 12_000_000
"""Of what is made of it: 36 MB. Between a page at 300 dots an inch, which has 9 million, and one at
400.
"""

MOST_PIXELS: Final = {"WEBP": 9_000_000}
"""Of formats whose decoder takes more: WEBP's 16 bytes a pixel, 140 MB, of which it copies four
while nothing else of the process runs.
"""

MAX_SCANS: Final = 100
"""Of a JPEG. One that builds up as it loads has ten; each takes a pass over all pixels, and twelve
bytes: 20 MB of them held a thread for hours.
"""

PIXEL_BYTES: Final = 4
"""Of a picture in memory that has more than one byte a pixel; WEBP while it is decoded: 16."""

DRAFT: Final = 2 / 3
"""Share of the kept width and height that a JPEG may be decoded at: 40 million pixels become 10,
and 20 stay 20 until they are 12.
"""

STRIP_PIXELS: Final = 250_000
"""Of a picture are made RGB, white and smaller at once: each step takes memory for all that it is
given, and some keep all else waiting.
"""

_LARGE: Final = threading.Lock()


def decode(image: bytes) -> Image.Image:
    """The picture as RGB, 8 bits a channel; turned as its EXIF data ask; what is transparent shows
    white; of several frames the first.

    It has ``KEPT_PIXELS`` at most.

    Raises:
        RequestError: no picture, one of another format, too large, cut off, or with more than 8
            bits a channel.
        Overloaded: what other calls hold leaves no room for what it takes.
    """
    return decode_sized(image)[0]


def decode_sized(image: bytes) -> tuple[Image.Image, tuple[int, int]]:
    """The same, and the width and height of the picture as it was sent, upright. Raises as
    ``decode``.
    """
    with _refusing():
        picture = Image.open(BytesIO(image), formats=FORMATS)
    width, height = picture.size
    most = MOST_PIXELS.get(picture.format or "", MAX_PIXELS)
    if width * height > most:
        raise RequestError(
            f"the picture has {width} x {height} pixels, {most} at most are read. Send it smaller.",
            where="image",
        )
    # within the data of a scan these two bytes do not stand together
    if picture.format == "JPEG" and (scans := image.count(b"\xff\xda")) > MAX_SCANS:
        raise RequestError(
            f"the JPEG has {scans} scans, {MAX_SCANS} at most are read. Save it anew.",
            where="image",
        )
    if picture.mode[0] in "IF":
        raise RequestError(
            "the picture has more than 8 bits a channel. Send it with 8, as PNG or JPEG.",
            where="image",
        )
    kept = _kept(width, height)
    with _refusing():  # a JPEG's own way: at a half, a quarter or an eighth
        picture.draft(None, (int(kept[0] * DRAFT), int(kept[1] * DRAFT)))
    with _turn(picture):
        reserve(decoding := _decoding_bytes(picture))
        with _refusing():
            small = _in_strips(picture, _kept(*picture.size))
            orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
            picture.close()
        reserve(small.width * small.height * PIXEL_BYTES - decoding)
    if orientation in (1, None):
        return small, (width, height)
    small.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(small), (height, width) if orientation in (5, 6, 7, 8) else (
        width,
        height,
    )


@contextmanager
def _refusing() -> Iterator[None]:
    """Within, bytes that no decoder reads refuse the row: made to break one, they raise whatever
    they like out of it.
    """
    try:
        yield
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise RequestError(
            f"this is no picture of a kind that is read here: {', '.join(FORMATS)}.", where="image"
        ) from None
    except Exception as error:
        raise RequestError(
            f"the picture cannot be read: {error}. Is it whole?", where="image"
        ) from error


def pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    """An RGB picture as uint8 [height, width, 3]; a strip at a time, since nothing else of the
    process runs while one is copied.
    """
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return pixels


def _kept(width: int, height: int) -> tuple[int, int]:
    """The size that is kept of a picture."""
    ratio = min(1.0, math.sqrt(KEPT_PIXELS / (width * height)))
    return max(1, int(width * ratio)), max(1, int(height * ratio))


def _decoding_bytes(picture: Image.Image) -> int:
    """Of the picture while it is decoded, as its header says, and of what is kept of it."""
    width, height = picture.size
    to_width, to_height = _kept(width, height)
    each = PIXEL_BYTES
    if picture.format == "WEBP":
        each = 16
    elif picture.mode in ("1", "L", "P"):
        each = 1
    return width * height * each + to_width * to_height * PIXEL_BYTES


def _turn(picture: Image.Image) -> AbstractContextManager[object]:
    return _LARGE if picture.width * picture.height > KEPT_PIXELS else nullcontext()


def _in_strips(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture as RGB on white and of that size. Each pixel is the mean of those that it stands
    for, so strips leave no seams.
    """
    picture.load()
    (width, height), (to_width, to_height) = picture.size, size
    ratio, rows = height / to_height, max(1, STRIP_PIXELS // width)
    small = Image.new("RGB", size)
    for top in range(0, to_height, max(1, int(rows / ratio))):
        bottom = min(to_height, top + max(1, int(rows / ratio)))
        first, last = int(top * ratio), min(height, math.ceil(bottom * ratio))
        strip = _on_white(picture.crop((0, first, width, last)))
        if strip.size != (to_width, bottom - top):
            box = (0, top * ratio - first, width, min(bottom * ratio, height) - first)
            strip = strip.resize((to_width, bottom - top), Image.Resampling.BOX, box=box)
        small.paste(strip, (0, top))
    return small


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    white = Image.new("RGBA", layers.size, "white")
    return Image.alpha_composite(white, layers).convert("RGB")
