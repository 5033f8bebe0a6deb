"""How many replicas a function with a deployment of its own has: a pure function of looks at it, and of ``now``.

Rules, after Knative's autoscaler with its stable and its panic window:

1. A replica should have ``target`` calls in flight: what it answers within half the promised p95, or within ``GOAL_S``.
2. Panic. Twice as many replicas wanted as there are, by the mean of the panic window: they start now. A queue that would outlast a
   replica's start counts as it stands, so a step is answered at the first look; a shorter burst is over before a replica could help.
3. Up. More wanted at every moment of the panic window, by more than a tenth.
4. Down. To the most that was wanted at any moment of the stable window (``downscale_delay_s``), counting what the smaller number
   would have to do: each worker busy at most so much that the queue this makes stays within the target. Fewer in flight alone is no
   reason, since it may be the effect of there being many. While the most still falls, it may: one step down instead of several.
5. To nothing after ``downscale_to_zero_delay_s`` without a call.
6. Never to fewer while sequences live: Ray chooses the replica that goes, and what is kept of them goes with it.
7. No more than fit. Whoever waits for room gets it from the function that has had more than it needs for longest.

What would break it: counting calls where batches are of many rows each (waiting rows are counted as well, and the larger number holds),
or taking the number of replicas that run for the number that is wanted already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from runtime.demand import Bounds, Look, by_work, load_of, target

PANIC: Final = 2.0
"""Wanted over present that panics; Knative's number."""

TOLERANCE: Final = 1.1
"""Wanted over present that is answered by one more: in flight swings by a tenth around any target."""

FALLING_S: Final = 3.0
"""From the moment that fewer are enough to the step down: what is measured over windows goes on falling, and one step is one reload of
HAProxy instead of three."""

_EPSILON: Final = 1e-6


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered from look to look.

    Attributes:
        began: when it was first looked at; nothing is known of before.
        used_at: when a call was last seen.
        recent: looks of the panic window, with the replicas that each wanted.
        peaks: the most replicas needed in the stable window, then the most after that, and so on: a falling series of (at, needed).
        raised_at: since when more are wanted than there are, or None.
        spare_at: since when fewer are needed now than there are, or None.
        lowered_at: since when fewer were needed in the whole stable window, or None.
        is_at_zero: there was no replica; Ray wakes a function by itself, and what was known of it before is over then.
    """

    began: float
    used_at: float
    recent: tuple[tuple[Look, float], ...] = ()
    peaks: tuple[tuple[float, int], ...] = ()
    raised_at: float | None = None
    spare_at: float | None = None
    lowered_at: float | None = None
    is_at_zero: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there should be.

    Attributes:
        replicas: that number.
        missing: how many more are wanted and do not fit.
        spare: how many are more than needed now, above ``min_replicas``; they can be asked for.
        why: in words, with the numbers; empty when nothing changes.
        is_panic: rule 2 decided.
    """

    replicas: int
    state: State
    missing: int = 0
    spare: int = 0
    why: str = ""
    is_panic: bool = False


def wanted(
    look: Look, current: int, bounds: Bounds, state: State | None, now: float, *, fits: int | None = None, asked: int = 0
) -> Decision:
    """The number of replicas from now on.

    Args:
        current: replicas that are decided already, started or not.
        state: of the decision before; None for the first.
        fits: how many more find room now; None when not known.
        asked: spare replicas that another function needs.
    """
    if state is None or (current and state.is_at_zero):
        state = State(began=now, used_at=now)
    used_at = now if look.is_used or look.in_flight else state.used_at
    recent = tuple(pair for pair in state.recent if pair[0].at > now - bounds.panic_s)
    looks = [*(seen for seen, _ in recent), look]
    known = [seen.row_s for seen in looks if seen.row_s > 0]
    row_s = sum(known) / len(known) if known else 0.0
    aim = target(bounds, row_s)
    load = load_of(looks, bounds, row_s, current)
    by_queue = load / aim
    needed = _ceil(max(by_queue, by_work(looks, bounds, row_s, current)))
    peaks = _peaks(state.peaks, now, needed, bounds.stable_s)
    recent = (*recent, (look, by_queue))
    state = replace(state, used_at=used_at, recent=recent, peaks=peaks, is_at_zero=not current)

    said = f"{load:.0f} in flight, {aim:.3g} a replica wanted"
    lower = max(bounds.min_replicas, 1 if current or look.in_flight else 0)
    more, is_panic, window = _more(by_queue, current, recent, bounds, now - state.began)
    more = min(bounds.max_replicas, max(more, lower))
    if more > current:
        raised_at = now if state.raised_at is None else state.raised_at
        state = replace(state, raised_at=raised_at, spare_at=None, lowered_at=None)
        if now - raised_at < bounds.upscale_delay_s and current:
            return Decision(current, state)
        return _placed(more, current, state, fits, f"{said}, {window}", is_panic=is_panic)
    if look.sequences and current:
        return Decision(min(current, bounds.max_replicas), replace(state, raised_at=None, spare_at=None, lowered_at=None))
    return _fewer(needed, current, lower, bounds, replace(state, raised_at=None), now, said, asked)


def yields(spares: Iterable[tuple[str, float, int]], missing: int) -> dict[str, int]:
    """Who gives up how many replicas: those with spares, longest first, until so many are found.

    Args:
        spares: functions, each with when its spares began and how many they are.
    """
    given: dict[str, int] = {}
    for name, _, spare in sorted(spares, key=lambda entry: entry[1]):
        if missing > 0 and spare > 0:
            given[name] = min(spare, missing)
            missing -= given[name]
    return given


def _more(by_queue: float, current: int, recent: tuple[tuple[Look, float], ...], bounds: Bounds, age_s: float) -> tuple[int, bool, str]:
    """Replicas by the rules that go up, whether it is panic, and the window in words."""
    if by_queue >= PANIC * max(1, current):
        return _ceil(by_queue), True, "panic window"
    least = min(seen for _, seen in recent)
    if age_s >= bounds.panic_s and least > TOLERANCE * current:
        return _ceil(least), False, f"{bounds.panic_s:g} s long"
    return current, False, "calls wait"


def _placed(more: int, current: int, state: State, fits: int | None, said: str, *, is_panic: bool) -> Decision:
    """More replicas, as far as they fit."""
    if fits is None:
        return Decision(more, state, why=f"{current} → {more}: {said}", is_panic=is_panic)
    given = min(more, current + fits)
    rest = more - given
    room = f"{current + fits - given} more would fit" if not rest else f"{more} wanted, {fits} more fit"
    return Decision(given, state, rest, why=f"{current} → {given}: {said}; {room}", is_panic=is_panic)


def _fewer(needed: int, current: int, lower: int, bounds: Bounds, state: State, now: float, said: str, asked: int) -> Decision:
    """The same number, or fewer."""
    idle_s = now - state.used_at
    if current and not bounds.min_replicas and idle_s >= bounds.downscale_to_zero_delay_s:
        return Decision(0, state, why=f"{current} → 0: no call for {idle_s:.0f} s, {bounds.downscale_to_zero_delay_s:g} s is its delay")
    needed_now = max(lower, min(needed, current))
    spare_at = (now if state.spare_at is None else state.spare_at) if needed_now < current else None
    most = max(lower, min(state.peaks[0][1], bounds.max_replicas))
    lowered = most < current and now - state.began >= bounds.stable_s
    lowered_at = (now if state.lowered_at is None else state.lowered_at) if lowered else None
    state = replace(state, spare_at=spare_at, lowered_at=lowered_at)
    if lowered_at is not None and now - lowered_at >= FALLING_S:
        return Decision(
            most, replace(state, lowered_at=None), why=f"{current} → {most}: {said}; {state.peaks[0][1]} enough for {bounds.stable_s:g} s"
        )
    if asked and needed_now < current:
        left = max(needed_now, current - asked)
        return Decision(left, state, why=f"{current} → {left}: {said}; another function waits for the room", spare=left - needed_now)
    return Decision(min(current, bounds.max_replicas), state, spare=current - needed_now)


def _peaks(peaks: tuple[tuple[float, int], ...], now: float, needed: int, window_s: float) -> tuple[tuple[float, int], ...]:
    """A sliding maximum: what is older than the window, or smaller than what came after it, will never be the most again."""
    kept = [peak for peak in peaks if peak[0] > now - window_s and peak[1] > needed]
    return (*kept, (now, needed))


def _ceil(number: float) -> int:
    return math.ceil(number - _EPSILON)
