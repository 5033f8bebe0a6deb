"""The stage of my-function. The body of a call is the picture itself, of a type that it accepts."""

from io import BytesIO
from typing import TypedDict

import numpy as np
from PIL import Image, UnidentifiedImageError

from wakeful import RequestError


class Description(TypedDict):
    width: int
    height: int
    colour: str


def describe(image: bytes) -> Description:
    """Measure a picture, and mix its colours into one."""
    try:
        with Image.open(BytesIO(image), formats=("PNG", "JPEG", "WEBP")) as picture:
            width, height = picture.size
            if width * height > 12_000_000:  # a few bytes can claim any size
                raise RequestError("it has more than 12 million pixels.", where="image")
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise RequestError("it is no picture that can be read.", where="image") from error
    red, green, blue = pixels.mean(axis=(0, 1)).round().astype(int)
    return {"width": width, "height": height, "colour": f"#{red:02x}{green:02x}{blue:02x}"}
