"""Coroutines that hold an event loop: which stage's, for how long, and where.

A loop is looked after while a function has rows on it: the watchdog asks the loop to answer, and
where it does not, looks at the stack of the loop's thread. A stage is named that stands there in
two looks: then it was no other thread that kept the loop from its turn.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any, Final, Protocol

from runtime.batching.health.hangs import HUNG_S, LOOK_S, LOOP_HELD_S, is_loop_hung
from runtime.batching.health.stacks import frames_of, stage_lines
from runtime.system.function_context import CURRENT_FUNCTION

logger = logging.getLogger("wakeful.function")

REPEAT_S: Final = 60.0
"""One record of a stage that holds the loop in so many seconds; the next has the count of those
between.
"""

MOST_PLACES: Final = 100
"""Stages whose last record is remembered."""


class LoopUser(Protocol):
    """A function with stages on an event loop.

    Attributes:
        label: its name and version.
        loop, loop_thread: the loop, and the thread that it runs in.
        has_tasks: rows of it run there.
        timeout_s: longest that a call waits.

    ``stage_on_loop`` returns the stage that stands in a stack, or nothing.
    """

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def loop(self) -> Any: ...
    @property
    def loop_thread(self) -> int: ...
    @property
    def has_tasks(self) -> bool: ...
    @property
    def timeout_s(self) -> float: ...
    def stage_on_loop(self, frames: Sequence[FrameType]) -> str: ...


class LoopWatch:
    """Looks after event loops while functions have rows on them.

    Mutable state, of the watchdog's thread: ``_beats`` by loop; ``_last`` (when a stage's record
    was written) and ``_more`` (how many were not since), by the place.
    """

    def __init__(self) -> None:
        self._beats: dict[int, _Beat] = {}
        self._last: dict[tuple[str, str], float] = {}
        self._more: dict[tuple[str, str], int] = {}

    def look(self, functions: Iterable[LoopUser], now: float) -> tuple[str, str] | None:
        """Look once; returns the label of a function whose stage a loop hangs in, and why; or
        None."""
        hung = None
        users: dict[int, list[LoopUser]] = {}
        for function in functions:
            if function.has_tasks:
                users.setdefault(function.loop_thread, []).append(function)
        for thread, beat in list(self._beats.items()):
            if beat.answered is not None:
                self._end(beat)
                del self._beats[thread]
        for thread, of in users.items():
            asked = self._beats.get(thread)
            if asked is None:
                self._ask(thread, of[0].loop, now)
            elif now - asked.asked >= LOOP_HELD_S / 2:
                hung = self._sample(asked, thread, of, now) or hung
        return hung

    def _ask(self, thread: int, loop: Any, now: float) -> None:
        beat = _Beat(now)
        try:
            loop.call_soon_threadsafe(beat.answer)
        except RuntimeError:  # it is closed
            return
        self._beats[thread] = beat

    def _sample(
        self, beat: _Beat, thread: int, users: Sequence[LoopUser], now: float
    ) -> tuple[str, str] | None:
        """The loop does not answer: which stage stands in its thread's stack? Returns as
        ``look``."""
        frames = frames_of(thread)
        at = next(
            ((user.name, stage) for user in users if (stage := user.stage_on_loop(frames))), None
        )
        if at is None or at != beat.at:
            beat.at, beat.samples = at, 0
        beat.samples += at is not None
        if beat.samples == 1:
            beat.lines = stage_lines(frames)
        held_s = now - beat.asked
        if at is None or beat.samples < 2 or held_s <= HUNG_S:
            return None
        function, stage = at
        what = f"stage {stage!r} of {function!r} has held the event loop for {held_s:.0f} s"
        if not beat.is_logged:
            beat.is_logged = True
            log_for(
                function,
                f"{what}: no call of any function is answered. It is here:\n"
                + "\n".join(stage_lines(frames)),
            )
        # of a process that was stopped meanwhile, what was looked at counts
        seen_s = beat.samples * LOOK_S
        if not is_loop_hung(seen_s, max(user.timeout_s for user in users)):
            return None
        return next(user.label for user in users if user.name == function), what

    def _end(self, beat: _Beat) -> None:
        """The loop has answered."""
        assert beat.answered is not None
        held_s = beat.answered - beat.asked
        if beat.at is None or beat.samples < 2 or held_s < LOOP_HELD_S:
            return
        if beat.asked - self._last.get(beat.at, -math.inf) < REPEAT_S and not beat.is_logged:
            self._more[beat.at] = self._more.get(beat.at, 0) + 1
            return
        if len(self._last) >= MOST_PLACES:
            self._last.clear()
        self._last[beat.at] = beat.asked
        function, stage = beat.at
        more = self._more.pop(beat.at, 0)
        log_for(
            function,
            f"stage {stage!r} of {function!r} held the event loop for {held_s:.1f} s: no call of"
            " any function was answered meanwhile. Let it `await` what it waits for, or make it a"
            " plain `def`, which runs in a worker thread."
            + (f" {more} more times since the last line." if more else "")
            + " It was here:\n"
            + "\n".join(beat.lines),
        )


class _Beat:
    """A question to an event loop: when it was ``asked`` and ``answered``; while it is not, the
    stage that holds it (``at``: its function, its name), in how many looks it was seen, and where.
    """

    __slots__ = ("answered", "asked", "at", "is_logged", "lines", "samples")

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.answered: float | None = None
        self.at: tuple[str, str] | None = None
        self.samples = 0
        self.lines: list[str] = []
        self.is_logged = False

    def answer(self) -> None:
        """On the loop."""
        self.answered = time.monotonic()


def log_for(function: str, text: str) -> None:
    """Write a record into a function's log."""
    before = CURRENT_FUNCTION.set(function)
    logger.error("%s", text)
    CURRENT_FUNCTION.reset(before)
