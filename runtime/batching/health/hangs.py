"""When a worker that does not come back from a batch is given up, and when its process is: pure
functions of numbers.

A batch is *overdue* once it has run for longer than the function lets a call wait, and no caller
waits for it any more: nothing that comes of it has a use. Another thread takes its place as soon as
rows wait, so the next call does not wait for it. A caller's own shorter time proves nothing: a
stage may take three seconds, and ``num_cpus: 1`` promises its author one thread at a time.

It *hangs* once it is overdue and half a minute is over: the log says where it is, and its rows are
let go of. What Python cannot end goes on: a thread in ``while True`` takes its part of the
interpreter's lock, and each keeps what its stage holds. So no more than a few threads are given up,
of one function and of the process. A function that would need one more and hangs cannot answer
(``Verdict`` ``stuck``), and only the end of the process frees what it holds.

A worker that takes the place of another constructs the stage anew that this one is in. It gets the
time of a load for that (``construct_limit_s``), and not that of a call: a model that takes 20 s to
read would be read four times at once otherwise.

What would break it: a clock that goes on while the process does not. One that was stopped (a
laptop that slept, ``docker pause``) has not waited for its stages, so the watchdog counts the
seconds between its own looks (``watchdog``), and these functions take what it counted.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

HUNG_S: Final = 30.0
"""A worker that ends its batch within this time is slow and does not hang."""

MOST_ABANDONED: Final = 3
"""Threads of one function that are given up and have not come back: one row that hangs may be sent
again by its client, and by another; a fourth is no accident."""

MOST_ABANDONED_IN_ALL: Final = 8
"""Threads of a process. Eight in ``while True`` leave an event loop its turn after 40 ms."""

CONSTRUCT_FACTOR: Final = 4.0
"""A stage may take so many times as long to construct beside calls as it took when the function was
loaded."""

LOOP_HELD_S: Final = 0.5
"""A coroutine that holds the event loop for so long is named in the log: no call of any function is
answered meanwhile."""

LOOK_S: Final = 0.25
"""Between two looks of the watchdog while a stage runs: the next call of a function whose worker
hangs waits that long for another."""

Verdict = Literal["works", "waits", "replace", "stuck"]
"""``works``: within its time. ``waits``: overdue, and nothing is done yet. ``replace``: another
thread takes its place. ``stuck``: it hangs, and no thread may take its place.
"""


class BusyWorker(NamedTuple):
    """A worker in a batch.

    Attributes:
        ran_s: seconds that it has been in it.
        timeout_s: longest that a call of the function waits; infinite where nothing says so.
        has_callers: a caller waits for a row of the batch.
    """

    ran_s: float
    timeout_s: float
    has_callers: bool

    @property
    def is_overdue(self) -> bool:
        """See the module."""
        return not self.has_callers and self.ran_s > self.timeout_s

    @property
    def is_hung(self) -> bool:
        """See the module."""
        return self.is_overdue and self.ran_s > HUNG_S


def judge(worker: BusyWorker, *, has_waiting: bool, abandoned: int, in_all: int) -> Verdict:
    """What becomes of a worker.

    Args:
        has_waiting: rows wait for a worker, of this function or of others.
        abandoned: threads of its function that were given up and have not come back.
        in_all: those of all functions.
    """
    if not worker.is_overdue:
        return "works"
    if abandoned < MOST_ABANDONED and in_all < MOST_ABANDONED_IN_ALL:
        return "replace" if has_waiting or worker.is_hung else "waits"
    return "stuck" if worker.is_hung else "waits"


def construct_limit_s(loaded_s: float) -> float:
    """Seconds that a worker has to construct a stage anew.

    Args:
        loaded_s: that the function's stages took to construct when it was loaded.
    """
    return max(HUNG_S, CONSTRUCT_FACTOR * loaded_s)


def can_answer(stuck: int, max_workers: int, threads: int, stuck_in_all: int) -> bool:
    """Whether a function has a worker left.

    Args:
        stuck: its workers that are ``stuck``.
        max_workers: that may run it at once.
        threads: that the process has for all functions.
        stuck_in_all: stuck workers of all functions.
    """
    return stuck < min(max_workers, threads) and (not stuck or stuck_in_all < threads)


def is_loop_hung(held_s: float, longest_timeout_s: float) -> bool:
    """Whether a process whose event loop was held for so long by one step of a coroutine is to end:
    every call that it had is over.

    Args:
        longest_timeout_s: longest that a call of any of its functions waits.
    """
    return held_s > max(HUNG_S, longest_timeout_s)


def call_fix(stage: str, ran_s: float) -> str:
    """As ``late_fix``, of a call that is in a stage which calls another function, for so many
    seconds.
    """
    return (
        f"The function that stage {stage!r} calls had not answered after {ran_s:.3g} s. Leave it"
        " more time, or raise limits.request_timeout_s, if it takes longer; where a stage of it"
        f" never returns, its log says after {HUNG_S:g} s at which line it is."
    )


def construct_fix(stage: str, ran_s: float) -> str:
    """As ``late_fix``, of a call that waits for workers which construct a stage anew, for so many
    seconds.
    """
    return (
        f"Stage {stage!r} did not return from an earlier call, and is constructed anew: its"
        f" `__init__` has not returned for {ran_s:.3g} s, so this call was not begun. Where it"
        " never does, the log says at which line it is."
    )


def late_fix(stage: str, ran_s: float, *, is_own: bool, is_overdue: bool) -> str:
    """What the caller of a late call is told to do, where a stage that has not returned is the
    reason; empty where it is not.

    Args:
        stage: that a worker is in.
        ran_s: for how many seconds.
        is_own: with rows of this call.
        is_overdue: with rows of others, for longer than any of them waits.
    """
    if is_own:
        return (
            f"Stage {stage!r} had not returned after {ran_s:.3g} s. Leave it more time, or raise "
            "limits.request_timeout_s, if it takes longer; where it never returns, the log says"
            f" after {HUNG_S:g} s at which line it is."
        )
    if is_overdue:
        return (
            f"Stage {stage!r} has not returned from an earlier call for {ran_s:.3g} s, so this one"
            f" was not begun. The log says after {HUNG_S:g} s at which line it is; give what it"
            " waits for a time limit."
        )
    return ""
