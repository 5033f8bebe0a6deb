"""Task ``image-classification``: a picture in, what it shows out.

pixels ─▶ model ─▶ name
"""

from __future__ import annotations

from io import BytesIO
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wakeful import RequestError, Shape, reserve
from wakeful.tasks.text_classification import softmax

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 9_000_000
"""Of a picture, and of what is made of it: a few bytes can claim any size, a decoder takes 4 to 16
bytes a pixel, and a line of a million pixels becomes a wide one at the model's height.
"""

PIXEL_BYTES = 8
"""Of a picture in memory, while it is worked on."""

FLOAT_BYTES = 24
"""Of three channels in float32, and of their copy in the model's order."""

PixelValues = Annotated[NDArray[np.float32], Shape(3, -1, -1)]
Logits = Annotated[NDArray[np.float32], Shape(-1)]


class Label(TypedDict):
    """One class and how likely it is, 0 to 1."""

    label: str
    score: float


class Labels(TypedDict):
    """What the caller gets: the likeliest first."""

    labels: list[Label]


def decode(image: bytes) -> Image.Image:
    """The picture as RGB, 8 bits a channel, turned as its EXIF data ask; of several the first."""
    try:
        picture = Image.open(BytesIO(image), formats=FORMATS)
    except Exception as error:  # made to break a decoder, bytes raise whatever they like out of it
        raise _unreadable(error) from error
    reserve_pixels(*picture.size, "the picture has {} x {} pixels")
    if picture.mode[0] in "IF":  # Pillow would cut what is above 255
        raise RequestError(
            "the picture has more than 8 bits a channel. Send it with 8.", where="image"
        )
    try:
        return ImageOps.exif_transpose(picture).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable(error) from error


def reserve_pixels(width: int, height: int, said: str) -> None:
    """Reserve the memory of a picture, or refuse it."""
    if width * height > MAX_PIXELS:
        raise RequestError(
            f"{said.format(width, height)}, {MAX_PIXELS} in all at most are read. Send another.",
            where="image",
        )
    reserve(width * height * PIXEL_BYTES)


def _unreadable(error: Exception) -> RequestError:
    return RequestError(f"the picture cannot be read: {error}. Is it whole?", where="image")


class Pixels:
    """Pictures to what the model takes, FP32 ``[3, height, width]``, as
    ``preprocessor_config.json`` says: resized, cut out of the middle, scaled, normalised.

    Args:
        resize: height and width; one number: the shorter side; none: as it is.
        resample: Pillow's number of the filter: 2 bilinear, 3 bicubic.
        crop: height and width of the middle that is kept; none: all.
        rescale: what each value from 0 to 255 is multiplied by.
        mean, std: by channel, of the values after that; taken off, and divided by.
    """

    def __init__(
        self,
        resize: list[int] | None = None,
        resample: int = 2,
        crop: list[int] | None = None,
        rescale: float = 1 / 255,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        self._resize = resize
        self._filter = Image.Resampling(resample)
        self._crop = crop
        self._scale = np.float32(rescale)
        self._mean = np.array(mean or [0, 0, 0], np.float32)
        self._std = np.array(std or [1, 1, 1], np.float32)

    def __call__(self, image: bytes) -> PixelValues:
        picture = decode(image)
        if self._resize is not None:
            height, width = self._resize * 2 if len(self._resize) == 1 else self._resize
            if len(self._resize) == 1:  # the longer side in proportion
                short = min(picture.size)
                height, width = (
                    int(side * height / short) for side in (picture.height, picture.width)
                )
            reserve_pixels(
                width, height, "at the model's size the picture would have {} x {} pixels"
            )
            picture = picture.resize((width, height), self._filter)
        if self._crop is not None:
            height, width = self._crop
            top, left = (picture.height - height) // 2, (picture.width - width) // 2
            # black where the picture is smaller
            picture = picture.crop((left, top, left + width, top + height))
        reserve(picture.width * picture.height * FLOAT_BYTES)
        pixels = np.asarray(picture, np.float32)
        pixels *= self._scale  # in place, as the next two: a large picture is one of 108 MB here
        pixels -= self._mean
        pixels /= self._std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


class Name:
    """The model's numbers, FP32 ``[labels]``, to the likeliest labels.

    Args:
        labels: in the order of the model's numbers (``id2label`` of ``config.json``).
        top: how many are named.
    """

    def __init__(self, labels: list[str], top: int = 5) -> None:
        self._labels = labels
        self._top = top

    def __call__(self, logits: Logits) -> Labels:
        scores = softmax(logits)
        best = np.argsort(-scores, kind="stable")[: self._top]
        return {"labels": [{"label": self._labels[at], "score": float(scores[at])} for at in best]}
