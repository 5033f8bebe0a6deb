"""Stages that the tests of "Try it" call: a picture with places on it, a sound, a slow stream."""

from __future__ import annotations

import io
import time
import wave
from collections.abc import Iterator
from typing import Annotated, TypedDict

from pydantic import Field

from wakeful import RequestError


class Place(TypedDict):
    """What is seen where."""

    label: str
    box: tuple[int, int, int, int]
    score: float


class Seen(TypedDict):
    """What is upon a picture, and how large the file was."""

    objects: list[Place]
    size: int


def spot(image: bytes, least: Annotated[float, Field(ge=0, le=1)] = 0.5) -> Seen:
    """Two places, of those that are sure enough."""
    places: list[Place] = [
        {"label": "cat", "box": (1, 1, 5, 5), "score": 0.9},
        {"label": "dog", "box": (3, 2, 7, 7), "score": 0.6},
    ]
    return {"objects": [one for one in places if one["score"] >= least], "size": len(image)}


Wav = Annotated[bytes, Field(description="A WAV file of 8 kHz, one channel and 16 bits.")]


class Heard(TypedDict):
    """Of a sound."""

    rate: int
    channels: int
    samples: int
    peak: int


def hear(sound: Wav) -> Heard:
    """What the file says of itself, and its loudest sample."""
    try:
        with wave.open(io.BytesIO(sound)) as file:
            data = memoryview(file.readframes(file.getnframes())).cast("h")
            return {
                "rate": file.getframerate(),
                "channels": file.getnchannels(),
                "samples": len(data),
                "peak": max(map(abs, data), default=0),
            }
    except (wave.Error, EOFError) as error:
        raise RequestError(f"this is no WAV file: {error}.", where="sound") from None


class Word(TypedDict):
    """A piece of a text."""

    text: str


def tell(count: int, wait_s: float = 0.0, fails_at: int = -1) -> Iterator[Word]:
    """So many words, each after a wait."""
    for number in range(count):
        time.sleep(wait_s)
        if number == fails_at:
            raise RequestError("there are no more words.", where="fails_at")
        yield {"text": f"word{number} "}
