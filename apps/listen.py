"""Who speaks when: sound comes in pieces of any length, and each is answered with where speech
began and ended in it.

16 kHz, one channel, 16 bits: a WAV file, or its samples alone. The pieces of a sequence are one
stream; times count from its first sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from apps.sound import RATE, samples_of
from wakeful import Shape, State

HOP, CONTEXT, CELLS = 512, 64, 128
SPEECH, QUIET, QUIET_HOPS = 0.5, 0.35, 4
"""Speech begins at the one and goes on until it was below the other for an eighth of a second, as
Silero's own iterator has it.
"""

Sound = Annotated[
    bytes,
    Field(
        description="A WAV file of 16 kHz, one channel and 16 bits, the start or a later part "
        "of one, or samples."
    ),
]
Samples = Annotated[NDArray[np.float32], Shape(-1)]
Memory = Annotated[NDArray[np.float32], Shape(2, CELLS)]


@dataclass(frozen=True, slots=True)
class Heard:
    """What is kept of a stream."""

    rest: NDArray[np.float32]  # sound that is no whole hop yet, after the 64 samples before it
    memory: NDArray[np.float32]  # the model's, [2, 128]
    hops: int  # heard before
    speaks: bool
    quiet: int  # hops of silence since


class Piece(TypedDict):
    """The model's inputs, what it does not hear yet, and what was kept before."""

    samples: Samples
    hops: int
    memory: Memory
    rest: Samples
    before: Heard


class Event(TypedDict):
    """Speech begins or ends; or, last of each piece, how far the stream was heard and what share of
    the piece was speech.
    """

    event: Literal["speech_start", "speech_end", "heard"]
    at_s: float
    speech: float


class Followed(TypedDict):
    """What happened, and what is kept."""

    events: list[Event]
    heard: Heard


NOTHING: Final = Heard(np.zeros(CONTEXT, np.float32), np.zeros((2, CELLS), np.float32), 0, False, 0)


def pieces(sound: Sound, heard: State[Heard]) -> Piece:
    """Whole hops for the model; what is left over waits for the next piece."""
    before = heard or NOTHING
    waiting = np.concatenate([before.rest, samples_of(sound)])
    hops = (len(waiting) - CONTEXT) // HOP
    end = hops * HOP
    return {
        "samples": waiting[: end + CONTEXT],
        "hops": hops,
        "memory": before.memory,
        "rest": waiting[end:].copy(),
        "before": before,
    }


def follow(
    speech: Samples, hops: int, memory_after: Memory, rest: Samples, before: Heard
) -> Followed:
    """Where speech begins and ends, from the probability of each hop."""
    events: list[Event] = []
    speaks, quiet, spoken = before.speaks, before.quiet, 0
    for hop, probability in enumerate(speech[:hops].tolist(), before.hops):
        quiet = quiet + 1 if probability < QUIET else 0
        if not speaks and probability >= SPEECH:
            speaks = True
            events.append(
                {
                    "event": "speech_start",
                    "at_s": round(hop * HOP / RATE, 3),
                    "speech": round(probability, 3),
                }
            )
        elif speaks and quiet == QUIET_HOPS:
            speaks = False
            events.append(
                {
                    "event": "speech_end",
                    "at_s": round((hop + 1 - quiet) * HOP / RATE, 3),
                    "speech": round(probability, 3),
                }
            )
        spoken += speaks
    heard = before.hops + hops
    events.append(
        {
            "event": "heard",
            "at_s": round(heard * HOP / RATE, 3),
            "speech": round(spoken / max(1, hops), 3),
        }
    )
    return {"events": events, "heard": Heard(rest, memory_after, heard, speaks, quiet)}


def tell(events: list[Event]) -> Iterator[Event]:
    """Each event as it is."""
    yield from events
