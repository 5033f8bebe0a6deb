"""The state that sequences keep between their calls, and their order: one call of a sequence at a
time, first come, first served.

Theory of operation: everything here happens on one event loop. A call takes its sequence's lock
(``SequenceStore.lock``), gets the stored state, and commits a new one once it has its answer
(``SequenceLock.commit``). A call that fails, is late or whose client disconnects commits nothing,
and the sequence keeps its earlier state; a call that starts a sequence has dropped the earlier
state in any case. The number of sequences is bounded, and a sequence expires when it is idle; its
state never goes to a call of another sequence. The decisions are in ``runtime.protocol.sequences``.

HAProxy sends a call again whose connection broke, also to a replica that lives: a cable was out for
some seconds. So the last call of a sequence is known by HAProxy's name for it, with its answer; the
same one is not computed twice on what it has left (``SequenceLock.answered``).

What would break it: a state that a stage changes in place, before its call fails. Arrays are kept
read-only, also those in lists, tuples, dicts and dataclasses.
"""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np

from runtime.batching.calls import Call, CallOptions, Row
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.sections import SequencesSpec
from runtime.errors import DeadlineExceeded, RequestError
from runtime.protocol.sequences import (
    SequenceInfo,
    SequenceRef,
    expires_at,
    is_expired,
    lost_answer_error,
    sequence_refusal,
    unknown_error,
    unnamed_error,
)


class SequenceLock:
    """A sequence's lock, held by one call.

    Attributes:
        values: the stored state, by name; None for each at the sequence's start.
        waited_s: for the lock.
        answered: this call, which was answered before and came again; None: it is to be computed.

    Mutable state: ``committed``, the state that the call stores, and ``answer``, to be given again;
    None: it stores none.
    """

    __slots__ = ("answer", "answered", "committed", "values", "waited_s")

    def __init__(
        self, values: dict[str, Any], waited_s: float, answered: Call | None = None
    ) -> None:
        self.values = values
        self.waited_s = waited_s
        self.answered = answered
        self.committed: dict[str, Any] | None = None
        self.answer: Call | None = None

    def commit(self, values: Mapping[str, Any], answer: Call | None = None) -> None:
        """Stores those of the values that are the state; other names are ignored."""
        self.committed = {name: _own(values[name]) for name in self.values}
        self.answer = answer


class _Sequence:
    """One sequence: ``state`` is None until a call is answered; ``calls`` hold the lock or wait for
    it; ``route`` is that of the call that started it; ``last_call`` is HAProxy's name of the last
    one that was answered, and ``answer`` its answer, where that is kept.
    """

    __slots__ = ("answer", "calls", "last_call", "last_used", "lock", "route", "state")

    def __init__(self, now: float) -> None:
        self.lock = asyncio.Lock()  # fair: first come, first served
        self.state: dict[str, Any] | None = None
        self.route = self.last_call = ""
        self.answer: Call | None = None
        self.calls = 0
        self.last_used = now

    @property
    def info(self) -> SequenceInfo:
        return SequenceInfo(self.calls, self.last_used)


class SequenceStore:
    """The sequences of one function in one process.

    Args:
        names: of the values that make the state.
        limits: as declared.

    Mutable state: ``_sequences`` by key and id, least recently used first; ``_timer``, when the
    next one may expire.
    """

    def __init__(self, names: Iterable[str], limits: SequencesSpec) -> None:
        self._names = tuple(names)
        self._limits = limits
        self._sequences: OrderedDict[tuple[str, str], _Sequence] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        calls = sum(sequence.calls for sequence in self._sequences.values())
        return (
            f"<SequenceStore: {len(self)} of {self._limits.max_sequences} sequences, {calls} calls>"
        )

    def __len__(self) -> int:
        """Live sequences."""
        return len(self._sequences)

    def apply_settings(self, limits: SequencesSpec) -> None:
        """Takes other limits. Live sequences above a lower limit stay."""
        self._limits = limits
        self._schedule_expiry()

    def close(self) -> None:
        """Drops all sequences. Idempotent."""
        self._sequences.clear()
        self._schedule_expiry()

    @asynccontextmanager
    async def lock(self, ref: SequenceRef, until: float) -> AsyncIterator[SequenceLock]:
        """The call holds the lock of its sequence until the block ends.

        Args:
            until: the call's deadline, seconds, ``time.monotonic``.

        Raises:
            SequenceUnknown: the call goes on with a sequence that is not stored, or came again and
                its answer is not kept.
            TooManySequences: the limit of sequences is reached.
            Overloaded: too many calls of the sequence wait already.
            DeadlineExceeded: the calls before it took too long.
        """
        arrived = time.monotonic()
        sequence = self._enter(ref, arrived)
        try:
            await _acquire(sequence.lock, until, arrived, is_free=sequence.calls == 1)
            try:
                if ref.starts:
                    sequence.state, sequence.route = None, ref.route
                elif sequence.state is None or sequence.route != ref.route:
                    raise unknown_error(self._limits)
                answered = None
                if ref.call and ref.call == sequence.last_call and not ref.starts:
                    if sequence.answer is None:
                        raise lost_answer_error()
                    answered = sequence.answer
                state = dict(sequence.state or dict.fromkeys(self._names))
                lock = SequenceLock(state, time.monotonic() - arrived, answered)
                yield lock
                if lock.committed is not None:
                    sequence.state = None if ref.ends else lock.committed
                    sequence.last_call, sequence.answer = ref.call, lock.answer
            finally:
                sequence.lock.release()
        finally:
            self._leave(ref.kept_as, sequence)

    def _enter(self, ref: SequenceRef, now: float) -> _Sequence:
        self._drop_expired(now)
        sequence = self._sequences.get(ref.kept_as)
        info = sequence.info if sequence is not None else None
        refused = sequence_refusal(ref, info, len(self), self._next_expiry(), self._limits, now)
        if refused is not None:
            raise refused
        if sequence is None:
            sequence = self._sequences[ref.kept_as] = _Sequence(now)
        sequence.calls += 1
        return sequence

    def _leave(self, identity: tuple[str, str], sequence: _Sequence) -> None:
        sequence.calls -= 1
        sequence.last_used = time.monotonic()
        if self._sequences.get(identity) is not sequence:  # dropped, or the store is closed
            return
        if sequence.state is None and not sequence.calls:
            del self._sequences[identity]
        else:
            self._sequences.move_to_end(identity)
        self._schedule_expiry()

    def _drop_expired(self, now: float) -> None:
        for identity, sequence in list(self._sequences.items()):
            if is_expired(sequence.info, self._limits, now):
                del self._sequences[identity]
            elif not sequence.calls:  # and all after it were used later
                return

    def _next_expiry(self) -> float:
        """When the next sequence may expire; infinite when none may."""
        idle = next((one for one in self._sequences.values() if not one.calls), None)
        return math.inf if idle is None else expires_at(idle.info, self._limits)

    def _schedule_expiry(self) -> None:
        """Sets the timer for the next sequence that may expire."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        expiry = self._next_expiry()
        if expiry < math.inf:
            self._timer = asyncio.get_running_loop().call_later(
                max(0.0, expiry - time.monotonic()), self._on_timer
            )

    def _on_timer(self) -> None:
        self._timer = None
        self._drop_expired(time.monotonic())
        self._schedule_expiry()


async def _acquire(lock: asyncio.Lock, until: float, arrived: float, *, is_free: bool) -> None:
    """Takes the lock before ``until``; at once where no other call has it or waits for it."""
    if is_free:
        await lock.acquire()
        return
    try:
        async with asyncio.timeout(until - time.monotonic()):
            await lock.acquire()
    except TimeoutError:
        raise DeadlineExceeded(
            "the calls before it in its sequence were not answered within the "
            f"{until - arrived:.3g} s that its caller and request_timeout_s left it. "
            "Wait for an answer before the next call."
        ) from None


_DEEPEST: Final = 16
"""Depth of nested containers that are copied; a state that contains itself ends there."""


def _own(value: Any, depth: int = 0) -> Any:
    """A value to be kept, independent of the call's: an array without the batch that it was cut
    from, and read-only; new lists, tuples, dicts and dataclasses with such values in them.
    """
    if isinstance(value, np.ndarray):
        return _own_array(value)
    if depth == _DEEPEST:
        return value
    if isinstance(value, list | tuple):
        # much faster than one by one, on the event loop of all calls
        if all(kind in _PLAIN for kind in set(map(type, value))):
            return value[:] if type(value) is list else value
        items = [_own(item, depth + 1) for item in value]
        return (
            type(value)(*items)
            if hasattr(value, "_fields")
            else items
            if type(value) is list
            else tuple(items)
        )
    if type(value) is dict:
        return {key: _own(item, depth + 1) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        own = copy.copy(value)
        for field in fields(value):
            # frozen ones too
            object.__setattr__(own, field.name, _own(getattr(value, field.name), depth + 1))
        return own
    return value


_PLAIN: Final = frozenset({int, float, str, bytes, bool, type(None)})


def _own_array(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    kept = value if value.base is None else value.copy()
    view = kept.view()
    view.flags.writeable = False
    return view


ONE_ROW = (
    "a call of a sequence is one row: the next one goes on from what it left. "
    "Send an object, and make a call for each."
)


class SequenceCall:
    """One call that holds its sequence's lock.

    Attributes:
        rows: its row, merged with the stored state.
        options: of the call, with its deadline.
        answered: as of ``SequenceLock``.
    """

    def __init__(self, row: dict[str, Any], lock: SequenceLock, options: CallOptions) -> None:
        self.rows = ({**row, **lock.values},)
        self.options = options
        self.answered = lock.answered
        self._lock = lock

    def commit(self, call: Call, answer: Iterable[str] | None = None) -> None:
        """The call has been answered: stores its row's values of the state's names, unless the row
        failed. The wait for the lock counts as the call's queue.

        Args:
            answer: names of the values that answer it, which are kept until the next call; None:
                they cannot be given again.
        """
        call.timings["queue"] += self._lock.waited_s
        call.started -= self._lock.waited_s
        row = call.rows[0]
        if row.error is None:
            is_named = answer is not None and self.options.sequence and self.options.sequence.call
            kept = _answer_of(call, row, answer) if answer is not None and is_named else None
            self._lock.commit(row.values, kept)


def _answer_of(call: Call, row: Row, names: Iterable[str]) -> Call:
    """A call with no more of its row than answers it, independent of its batch."""
    answer = Call(
        [{name: _own(row.values[name]) for name in names if name in row.values}],
        request_id=call.request_id,
        now=call.started,
        deadline=call.deadline,
        indexes=[row.index],
    )
    answer.rows[0].gaps, answer.timings = row.gaps, call.timings
    return answer


@asynccontextmanager
async def sequence_turn(
    store: SequenceStore,
    spec: FunctionSpec,
    rows: Sequence[dict[str, Any]],
    options: CallOptions,
) -> AsyncIterator[SequenceCall]:
    """The call holds its sequence's lock; until the block ends, no other call of it does.

    Raises:
        RequestError: the call names no sequence, or is not one row.
        SequenceUnknown, TooManySequences, Overloaded, DeadlineExceeded: as ``SequenceStore.lock``.
    """
    if len(rows) != 1:
        raise RequestError(ONE_ROW)
    if options.sequence is None:
        raise unnamed_error(spec.name)
    deadline = options.deadline_at(time.monotonic(), spec.limits.request_timeout_s)
    async with store.lock(options.sequence, deadline) as lock:
        yield SequenceCall(rows[0], lock, options._replace(deadline=deadline))
