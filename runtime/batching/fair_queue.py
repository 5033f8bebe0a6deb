"""Shares worker seconds evenly between functions, by start-time fair queueing:

1. Every function has a *virtual time*: the worker seconds that it was given. Of the functions that
   wait, the one with the least virtual time goes first.
2. The clock is the largest virtual time that a batch has begun with. A function that begins to wait
   again is brought up to the clock: it does not save up time that it did not ask for, so it cannot
   keep the others waiting later.
3. A function is charged the expected time of a batch when the batch begins, and the difference when
   it ends; so two workers that ask while a long batch runs do not both serve the same function.
4. A function that may not have more workers (``max_workers``) is passed over. What it falls behind
   by that is forgotten beyond ``CREDIT_S``.
5. A spare worker only serves a function that has no worker: a rarely called function starts at
   once, however busy the others are.

So two functions that both wait all the time, on one worker, differ by no more than a longest batch
of each (Goyal, Vin and Cheng, *Start-time fair queueing*, 1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

CREDIT_S = 1.0
"""How far a function may fall behind the clock, in worker seconds. A second: what happened longer
ago gives no right to a worker.
"""

UNKNOWN_S = 0.001
"""What a batch is charged at its beginning when nothing is known of its function yet."""


@dataclass(slots=True, eq=False)
class FunctionShare:
    """One function's share of the workers; changed by ``FairQueue`` and ``Workers`` only, under the
    workers' lock.

    Attributes:
        max_workers: that run it at once.
        active: workers that run it now.
        waking: workers that were woken for it and do not run yet.
        done_s: worker seconds of batches that have ended.
        began_s: the sum of the times at which the running batches began.
        virtual_time: see rule 1 of the module.
        is_waiting: rows of it wait for a worker.
        abandoned: workers that were given up in a batch of it, and have not come back.
        trouble: why it has no worker any more, once it has none; empty when all is well.
    """

    max_workers: int
    active: int = 0
    waking: int = 0
    done_s: float = 0.0
    began_s: float = 0.0
    virtual_time: float = 0.0
    is_waiting: bool = False
    abandoned: int = 0
    trouble: str = ""

    def busy_s(self, now: float) -> float:
        """Worker seconds spent on it until now, running batches included; never falls."""
        return self.done_s + self.active * now - self.began_s

    def hand_over(self, began: float, now: float) -> None:
        """The batch that was taken at ``began`` goes on without a use; another worker has its place
        from now on. The function is not charged for what hangs: it would have to wait for as long.
        """
        self.done_s += now - began
        self.began_s += now - began


class SharingFunction(Protocol):
    """A function whose rows wait for a worker."""

    @property
    def share(self) -> FunctionShare: ...


Function = TypeVar("Function", bound=SharingFunction)


class FairQueue:
    """The clock of rule 2 of the module, and what moves it."""

    __slots__ = ("clock",)

    def __init__(self) -> None:
        self.clock = 0.0

    def order(self, waiting: Sequence[Function], *, is_spare: bool = False) -> Sequence[Function]:
        """The functions that a worker may serve: least virtual time first, then in order of
        arrival.
        """
        if len(waiting) == 1:
            return waiting if _may(waiting[0].share, is_spare) else ()
        return sorted(
            (source for source in waiting if _may(source.share, is_spare)),
            key=lambda source: source.share.virtual_time,
        )

    def join(self, share: FunctionShare) -> None:
        """Rows of the function begin to wait."""
        share.virtual_time = max(share.virtual_time, self.clock)

    def begin(self, share: FunctionShare, expected_s: float, now: float) -> float:
        """A worker takes a batch; returns the seconds that were charged, for ``end``."""
        charged = expected_s or UNKNOWN_S
        self.clock = max(self.clock, share.virtual_time)
        share.virtual_time = max(share.virtual_time, self.clock - CREDIT_S) + charged
        share.active += 1
        share.began_s += now
        return charged

    def end(self, share: FunctionShare, charged_s: float, began: float, now: float) -> None:
        """The batch that was taken at ``began`` has ended."""
        share.virtual_time += now - began - charged_s
        share.done_s += now - began
        share.active -= 1
        share.began_s = share.began_s - began if share.active else 0.0


def fair_workers(count: int, most: int, others: Sequence[int]) -> float:
    """How many of ``count`` workers a function has on average that may have ``most``, while others
    want so many each: none has more than an equal part unless others leave it.
    """
    left, functions = float(count), len(others) + 1
    for want in sorted(others):
        if want >= left / functions:
            break
        left -= want
        functions -= 1
    return min(most, left / functions)


def _may(share: FunctionShare, is_spare: bool) -> bool:
    return share.active < (1 if is_spare else share.max_workers)
