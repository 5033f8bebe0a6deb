"""How many replicas a function with a deployment of its own has: a pure function of its samples and
of ``now``. The Ray Serve policy and the simulator decide by it.

Rules, after Knative's autoscaler with its stable and its panic window:

1. A replica should have ``target_in_flight`` calls in flight: what it answers within half the
   promised p95, or within ``GOAL_S``.
2. Panic. Twice as many replicas wanted as there are, by the mean of the panic window: they start
   now. A queue that would outlast a replica's start counts as it is, so a step is answered at the
   first sample; a shorter burst is over before a replica could help.
3. Up. More wanted at every moment of the panic window, by more than a tenth.
4. Down. To the most that was wanted at any moment of the stable window (``downscale_delay_s``),
   counting what the smaller number would have to do: each worker busy at most so much that the
   queue this makes stays within the target. Fewer in flight alone is no reason, since it may be the
   effect of there being many. While the most still falls, it may: one step down instead of several.
5. To nothing after ``downscale_to_zero_delay_s`` without a call.
6. Never to fewer while sequences live: Ray chooses the replica that ends, and their state ends with
   it.
7. No more than fit. A function that lacks room gets it from the one that has had more replicas than
   it needs for longest.

What would break it: counting calls where batches are of many rows each (waiting rows are counted as
well, and the larger number holds), or taking the number of replicas that run for the number that is
wanted already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deployments.scaling.demand import (
    LoadSample,
    ScalingLimits,
    measure_load,
    replicas_by_work,
    target_in_flight,
)

PANIC: Final = 2.0
"""Wanted over present that panics; Knative's number."""

TOLERANCE: Final = 1.1
"""Wanted over present that is answered by one more: in flight swings by a tenth around any target.
"""

FALLING_S: Final = 3.0
"""From the moment that fewer are enough to the step down: what is measured over windows goes on
falling, and one step is one reload of HAProxy instead of three."""

_EPSILON: Final = 1e-6


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What is remembered from sample to sample.

    Attributes:
        began: when the first sample was; nothing is known of before.
        used_at: when a call was last seen.
        recent: samples of the panic window, with the replicas that each wanted.
        peaks: the most replicas needed in the stable window, then the most after that, and so on: a
            falling series of (at, needed).
        raised_since: since when more are wanted than there are, or None.
        surplus_since: since when fewer are needed now than there are, or None.
        lowered_since: since when fewer were needed in the whole stable window, or None.
        is_at_zero: there was no replica; Ray wakes a function by itself, and what was known before
            does not count then.
    """

    began: float
    used_at: float
    recent: tuple[tuple[LoadSample, float], ...] = ()
    peaks: tuple[tuple[float, int], ...] = ()
    raised_since: float | None = None
    surplus_since: float | None = None
    lowered_since: float | None = None
    is_at_zero: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaDecision:
    """How many replicas there should be.

    Attributes:
        replicas: that number.
        missing: how many more are wanted and do not fit.
        surplus: replicas that are not needed now, above ``min_replicas``; they can be reclaimed.
        why: in words, with the numbers; empty when nothing changes.
    """

    replicas: int
    state: ReplicaState
    missing: int = 0
    surplus: int = 0
    why: str = ""


def wanted_replicas(
    sample: LoadSample,
    current: int,
    limits: ScalingLimits,
    state: ReplicaState | None,
    now: float,
    *,
    fits: int | None = None,
    reclaim: int = 0,
) -> ReplicaDecision:
    """The number of replicas from now on.

    Args:
        current: replicas that are decided already, started or not.
        state: of the decision before; None for the first.
        fits: how many more fit now; None when not known.
        reclaim: surplus replicas that other functions need.
    """
    if state is None or (current and state.is_at_zero):
        state = ReplicaState(began=now, used_at=now)
    used_at = now if sample.is_used or sample.in_flight else state.used_at
    recent = tuple(pair for pair in state.recent if pair[0].at > now - limits.panic_s)
    samples = [*(seen for seen, _ in recent), sample]
    known = [seen.row_s for seen in samples if seen.row_s > 0]
    row_s = sum(known) / len(known) if known else 0.0
    target = target_in_flight(limits, row_s)
    load = measure_load(samples, limits, row_s, current)
    by_queue = load / target
    needed = _ceil(max(by_queue, replicas_by_work(samples, limits, row_s, current)))
    peaks = _peaks(state.peaks, now, needed, limits.stable_s)
    recent = (*recent, (sample, by_queue))
    state = replace(state, used_at=used_at, recent=recent, peaks=peaks, is_at_zero=not current)

    summary = f"{load:.0f} in flight, {target:.3g} a replica wanted"
    lower = max(limits.min_replicas, 1 if current or sample.in_flight else 0)
    more, window = _more(by_queue, current, recent, limits, now - state.began)
    more = min(limits.max_replicas, max(more, lower))
    if more > current:
        raised_since = now if state.raised_since is None else state.raised_since
        state = replace(state, raised_since=raised_since, surplus_since=None, lowered_since=None)
        if now - raised_since < limits.upscale_delay_s and current:
            return ReplicaDecision(current, state)
        return _placed(more, current, state, fits, f"{summary}, {window}")
    if sample.sequences and current:
        return ReplicaDecision(
            min(current, limits.max_replicas),
            replace(state, raised_since=None, surplus_since=None, lowered_since=None),
        )
    return _fewer(
        needed, current, lower, limits, replace(state, raised_since=None), now, summary, reclaim
    )


def choose_yielding(surpluses: Iterable[tuple[str, float, int]], missing: int) -> dict[str, int]:
    """How many replicas each function gives up: longest surplus first, until so many are found.

    Args:
        surpluses: functions, each with when its surpluses began and how many they are.
    """
    given: dict[str, int] = {}
    for name, _, surplus in sorted(surpluses, key=lambda entry: entry[1]):
        if missing > 0 and surplus > 0:
            given[name] = min(surplus, missing)
            missing -= given[name]
    return given


def count_fitting(free: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many replicas with such needs fit."""
    return max(0, min(int(free.get(name, 0.0) / amount + 1e-9) for name, amount in needs.items()))


def max_free_on_a_node(free: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each resource the most that any one machine has free: a replica that needs more fits
    nowhere.
    """
    return {
        name: max(node.get(name, 0.0) for node in free)
        for name in {name for node in free for name in node}
    }


def _more(
    by_queue: float,
    current: int,
    recent: tuple[tuple[LoadSample, float], ...],
    limits: ScalingLimits,
    age_s: float,
) -> tuple[int, str]:
    """Replicas by the rules that go up, and the window in words."""
    if by_queue >= PANIC * max(1, current):
        return _ceil(by_queue), "panic window"
    least = min(seen for _, seen in recent)
    if age_s >= limits.panic_s and least > TOLERANCE * current:
        return _ceil(least), f"{limits.panic_s:g} s long"
    return current, "calls wait"


def _placed(
    more: int, current: int, state: ReplicaState, fits: int | None, summary: str
) -> ReplicaDecision:
    """More replicas, as far as they fit."""
    if fits is None:
        return ReplicaDecision(more, state, why=f"{current} → {more}: {summary}")
    given = min(more, current + fits)
    rest = more - given
    room = (
        f"{current + fits - given} more would fit"
        if not rest
        else f"{more} wanted, {fits} more fit"
    )
    return ReplicaDecision(given, state, rest, why=f"{current} → {given}: {summary}; {room}")


def _fewer(
    needed: int,
    current: int,
    lower: int,
    limits: ScalingLimits,
    state: ReplicaState,
    now: float,
    summary: str,
    reclaim: int,
) -> ReplicaDecision:
    """The same number, or fewer."""
    idle_s = now - state.used_at
    if current and not limits.min_replicas and idle_s >= limits.downscale_to_zero_delay_s:
        return ReplicaDecision(
            0,
            state,
            why=f"{current} → 0: no call for {idle_s:.0f} s, "
            f"{limits.downscale_to_zero_delay_s:g} s is its delay",
        )
    needed_now = max(lower, min(needed, current))
    surplus_since = (
        (now if state.surplus_since is None else state.surplus_since)
        if needed_now < current
        else None
    )
    most = max(lower, min(state.peaks[0][1], limits.max_replicas))
    lowered = most < current and now - state.began >= limits.stable_s
    lowered_since = (
        (now if state.lowered_since is None else state.lowered_since) if lowered else None
    )
    state = replace(state, surplus_since=surplus_since, lowered_since=lowered_since)
    if lowered_since is not None and now - lowered_since >= FALLING_S:
        return ReplicaDecision(
            most,
            replace(state, lowered_since=None),
            why=f"{current} → {most}: {summary}; {state.peaks[0][1]} enough for "
            f"{limits.stable_s:g} s",
        )
    if reclaim and needed_now < current:
        remaining = max(needed_now, current - reclaim)
        return ReplicaDecision(
            remaining,
            state,
            why=f"{current} → {remaining}: {summary}; another function waits for the room",
            surplus=remaining - needed_now,
        )
    return ReplicaDecision(min(current, limits.max_replicas), state, surplus=current - needed_now)


def _peaks(
    peaks: tuple[tuple[float, int], ...], now: float, needed: int, window_s: float
) -> tuple[tuple[float, int], ...]:
    """A sliding maximum: what is older than the window, or smaller than what came after it, will
    never be the maximum again.
    """
    kept = [peak for peak in peaks if peak[0] > now - window_s and peak[1] > needed]
    return (*kept, (now, needed))


def _ceil(number: float) -> int:
    return math.ceil(number - _EPSILON)
