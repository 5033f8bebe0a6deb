"""Whose turn it is: worker seconds shared evenly between functions, by start-time fair queueing.

Rules:

1. Every function has a *tag*: the worker seconds that it was given. Of those that wait, the one with the least tag goes first.
2. The clock is the largest tag that a turn has begun with. A function that begins to wait again is brought up to the clock: time
   that it did not ask for is not saved up, so it cannot keep the others waiting later.
3. A turn is charged what it is expected to take when it begins, and the difference when it ends; so two workers that ask while a
   long batch runs do not both serve the same function.
4. A function that may not have more workers (``share``) is passed over. What it falls behind by that is forgotten beyond ``CREDIT_S``.
5. A spare worker only serves a function that has no worker: a rare one starts at once, however busy the others are.

So two functions that both wait all the time, on one worker, differ by no more than a longest batch of each (Goyal, Vin and Cheng,
*Start-time fair queueing*, 1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

CREDIT_S = 1.0
"""How far a function may fall behind the clock, in worker seconds. A second: what happened longer ago gives no right to a worker."""

UNKNOWN_S = 0.001
"""What a turn is charged at its beginning when nothing is known of its function yet."""


@dataclass(slots=True, eq=False)
class Lane:
    """What one function has had of the workers; changed by ``Turns`` and ``Workers`` only, under their lock.

    Attributes:
        share: most workers at once.
        active: workers that run it now.
        coming: workers that were woken for it and have not looked yet.
        done_s: worker seconds of turns that have ended.
        began_s: when the turns under way began, added up.
        tag: see rule 1.
        is_waiting: rows of it wait for a worker.
    """

    share: int
    active: int = 0
    coming: int = 0
    done_s: float = 0.0
    began_s: float = 0.0
    tag: float = 0.0
    is_waiting: bool = False

    def busy_s(self, now: float) -> float:
        """Worker seconds spent on it until now, turns under way included; never falls."""
        return self.done_s + self.active * now - self.began_s


class HasLane(Protocol):
    """Whoever takes turns."""

    @property
    def lane(self) -> Lane: ...


Turn = TypeVar("Turn", bound=HasLane)


class Turns:
    """The clock of rule 2 and what moves it."""

    __slots__ = ("clock",)

    def __init__(self) -> None:
        self.clock = 0.0

    def order(self, waiting: Sequence[Turn], *, is_spare: bool = False) -> Sequence[Turn]:
        """Those that the worker may serve, first come who have had least; alike in order of arrival."""
        if len(waiting) == 1:
            return waiting if _may(waiting[0].lane, is_spare) else ()
        return sorted((one for one in waiting if _may(one.lane, is_spare)), key=_tag)

    def join(self, lane: Lane) -> None:
        """Its rows begin to wait."""
        lane.tag = max(lane.tag, self.clock)

    def begin(self, lane: Lane, expected_s: float, now: float) -> float:
        """A worker takes a batch of it; what comes back is what was charged, for ``end``."""
        charged = expected_s or UNKNOWN_S
        self.clock = max(self.clock, lane.tag)
        lane.tag = max(lane.tag, self.clock - CREDIT_S) + charged
        lane.active += 1
        lane.began_s += now
        return charged

    def end(self, lane: Lane, charged_s: float, began: float, now: float) -> None:
        """The batch that was taken at ``began`` is done."""
        lane.tag += now - began - charged_s
        lane.done_s += now - began
        lane.active -= 1
        lane.began_s = lane.began_s - began if lane.active else 0.0


def _may(lane: Lane, is_spare: bool) -> bool:
    return lane.active < (1 if is_spare else lane.share)


def _tag(one: HasLane) -> float:
    return one.lane.tag
