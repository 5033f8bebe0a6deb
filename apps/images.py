"""A picture out of bytes that a stranger sent: few formats, bounded before it is decoded, upright, on white."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from runtime import RequestError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS: Final = 40_000_000
"""Of a picture: 120 MB decoded. A few bytes can claim any size."""


def decode(image: bytes) -> Image.Image:
    """The picture as RGB, 8 bits a channel; turned as its EXIF data ask; what is transparent shows white; of several frames the first.

    Raises:
        RequestError: no picture, one of another format, too large, cut off, or with more than 8 bits a channel.
    """
    try:
        picture: Image.Image = Image.open(BytesIO(image), formats=FORMATS)
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise RequestError(f"the picture has {width} x {height} pixels, {MAX_PIXELS} at most are read. Send it smaller.", where="image")
        if picture.mode[0] in "IF":
            raise RequestError("the picture has more than 8 bits a channel. Send it with 8, as PNG or JPEG.", where="image")
        picture = ImageOps.exif_transpose(picture)
        return _on_white(picture) if picture.has_transparency_data else picture.convert("RGB")
    except (RequestError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise RequestError(f"this is no picture of a kind that is read here: {', '.join(FORMATS)}.", where="image") from None
    except Exception as error:  # made to break a decoder, bytes raise whatever they like out of it
        raise RequestError(f"the picture cannot be read: {error}. Is it whole?", where="image") from error


def _on_white(picture: Image.Image) -> Image.Image:
    layers = picture.convert("RGBA")
    white = Image.new("RGBA", layers.size, "white")
    return Image.alpha_composite(white, layers).convert("RGB")
