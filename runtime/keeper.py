"""What sequences keep between their calls, and whose turn it is: one call of a sequence at a time, in the order they came.

Theory of operation: everything here happens on one event loop. A call takes its turn (``turn``), is given what the sequence keeps, and
says what is to be kept instead (``Turn.keep``) once it has its answer. A call that fails, is late or is left by its caller says nothing,
and the sequence is as it was before; a start has ended what was before in any case. What is kept is bounded in number and forgotten after
an idle time; it is never handed to a call that does not go on with it. The decisions are in ``sequences``.

What would break it: a state that a stage changes in place, before its call fails. Arrays are kept so that nobody can write into them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from runtime.declaration.parts import SequencesSpec
from runtime.errors import DeadlineExceeded
from runtime.sequences import InSequence, Live, expires_at, is_expired, refusal, unknown


class Turn:
    """A call that has its turn.

    Attributes:
        values: what the sequence keeps, by name; None for each at its start.
        waited_s: for the turn.

    Mutable state: ``kept``, what the call leaves; None while it leaves the sequence as it was.
    """

    __slots__ = ("kept", "values", "waited_s")

    def __init__(self, values: dict[str, Any], waited_s: float) -> None:
        self.values = values
        self.waited_s = waited_s
        self.kept: dict[str, Any] | None = None

    def keep(self, values: Mapping[str, Any]) -> None:
        """From now on the sequence keeps these of the values that it keeps."""
        self.kept = {name: _own(values[name]) for name in self.values}


class _Sequence:
    """One of them: ``state`` is None until a call is answered; ``calls`` are at work or wait for the lock; ``route`` is its start's."""

    __slots__ = ("calls", "last_used", "lock", "route", "state")

    def __init__(self, now: float) -> None:
        self.lock = asyncio.Lock()  # fair: first come, first served
        self.state: dict[str, Any] | None = None
        self.route = ""
        self.calls = 0
        self.last_used = now

    def live(self) -> Live:
        return Live(self.state is not None, self.calls, self.last_used)


class Keeper:
    """The sequences of one function in one process.

    Args:
        names: of the values that are kept.

    Mutable state: ``_sequences`` by id, those used longest ago first; ``_timer``, when the next one may expire.
    """

    def __init__(self, names: Iterable[str], limits: SequencesSpec) -> None:
        self._names = tuple(names)
        self._limits = limits
        self._sequences: OrderedDict[str, _Sequence] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return (
            f"<Keeper: {len(self)} of {self._limits.max_sequences} sequences, {sum(one.calls for one in self._sequences.values())} calls>"
        )

    def __len__(self) -> int:
        """Sequences that live."""
        return len(self._sequences)

    def retune(self, limits: SequencesSpec) -> None:
        """Other limits; who lives beyond them lives on."""
        self._limits = limits
        self._watch()

    def close(self) -> None:
        """Forgets everything. Idempotent."""
        self._sequences.clear()
        self._watch()

    @asynccontextmanager
    async def turn(self, asked: InSequence, until: float) -> AsyncIterator[Turn]:
        """The call's turn; the next one begins when the block ends.

        Args:
            until: seconds, ``time.monotonic``, after which the call has no more use for it.

        Raises:
            SequenceUnknown: it goes on with what is not kept.
            TooManySequences: there is no place for another.
            Overloaded: too many calls of the sequence wait already.
            DeadlineExceeded: the calls before it took too long.
        """
        came = time.monotonic()
        sequence = self._enter(asked, came)
        try:
            await _within(sequence.lock, until, came, is_alone=sequence.calls == 1)
            try:
                if asked.starts:
                    sequence.state, sequence.route = None, asked.route
                elif sequence.state is None or sequence.route != asked.route:
                    raise unknown(self._limits)
                turn = Turn(dict(sequence.state or dict.fromkeys(self._names)), time.monotonic() - came)
                yield turn
                if turn.kept is not None:
                    sequence.state = None if asked.ends else turn.kept
            finally:
                sequence.lock.release()
        finally:
            self._leave(asked.id, sequence)

    def _enter(self, asked: InSequence, now: float) -> _Sequence:
        self._forget(now)
        sequence = self._sequences.get(asked.id)
        live = sequence.live() if sequence is not None else None
        refused = refusal(asked, live, len(self), self._frees_at(), self._limits, now)
        if refused is not None:
            raise refused
        if sequence is None:
            sequence = self._sequences[asked.id] = _Sequence(now)
        sequence.calls += 1
        return sequence

    def _leave(self, identity: str, sequence: _Sequence) -> None:
        sequence.calls -= 1
        sequence.last_used = time.monotonic()
        if self._sequences.get(identity) is not sequence:  # all is over
            return
        if sequence.state is None and not sequence.calls:
            del self._sequences[identity]
        else:
            self._sequences.move_to_end(identity)
        self._watch()

    def _forget(self, now: float) -> None:
        """Drops those that nobody has called for too long."""
        for identity, sequence in list(self._sequences.items()):
            if is_expired(sequence.live(), self._limits, now):
                del self._sequences[identity]
            elif not sequence.calls:  # and all behind it were used later
                return

    def _frees_at(self) -> float:
        """When the next one may be forgotten; infinite when none may."""
        idle = next((one for one in self._sequences.values() if not one.calls), None)
        return math.inf if idle is None else expires_at(idle.live(), self._limits)

    def _watch(self) -> None:
        """Sees to it that the next one is forgotten in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        frees_at = self._frees_at()
        if frees_at < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, frees_at - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._forget(time.monotonic())
        self._watch()


async def _within(lock: asyncio.Lock, until: float, came: float, *, is_alone: bool) -> None:
    """Takes the lock by then; at once where nobody else has it or waits for it."""
    if is_alone:
        await lock.acquire()
        return
    try:
        async with asyncio.timeout(until - time.monotonic()):
            await lock.acquire()
    except TimeoutError:
        raise DeadlineExceeded(
            f"the calls before it in its sequence were not answered within the {until - came:.3g} s that its caller and request_timeout_s "
            "left it. Wait for an answer before the next call."
        ) from None


def _own(value: Any) -> Any:
    """A value to be kept: an array without the batch that it was cut from, and read-only."""
    if not isinstance(value, np.ndarray):
        return value
    kept = value if value.base is None else value.copy()
    view = kept.view()
    view.flags.writeable = False
    return view
