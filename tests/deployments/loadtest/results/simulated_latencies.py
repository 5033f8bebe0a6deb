"""Latencies of made-up servers whose distribution is known, with the dependence that real ones have:
what a verdict is tried on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from deployments.loadtest.results.records import CallRecord, Promise, Run

Array = npt.NDArray[np.float64]

RATE: Final = 200.0


class Server(NamedTuple):
    """A made-up server.

    Attributes:
        draw: latencies in seconds of calls at these times.
        slower: the true share of calls that take longer than so many seconds, over all time.
    """

    draw: Callable[[np.random.Generator, Array], Array]
    slower: Callable[[float], float]

    def percentile(self, part: float) -> float:
        """The true one, seconds."""
        low, high = 1e-6, 1e6
        while high > low * (1 + 1e-9):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.slower(middle) > 1 - part else (low, middle)
        return high


def _normal_tail(value: float) -> float:
    return 0.5 * math.erfc(value / math.sqrt(2))


def _lognormal_tail(seconds: float, median: float, sigma: float) -> float:
    return _normal_tail(math.log(seconds / median) / sigma) if seconds > 0 else 1.0


def independent() -> Server:
    """Every call for itself, lognormal about 20 ms."""
    return Server(
        lambda dice, times: 0.02 * np.exp(0.5 * dice.standard_normal(len(times))),
        lambda seconds: _lognormal_tail(seconds, 0.02, 0.5),
    )


def autoregressive(memory_s: float) -> Server:
    """The same distribution; the correlation falls to a third within ``memory_s``."""

    def draw(dice: np.random.Generator, times: Array) -> Array:
        kept = np.exp(-np.diff(times, prepend=times[0]) / memory_s)
        noise = dice.standard_normal(len(times)) * np.sqrt(1 - kept**2)
        noise[0] = dice.standard_normal()
        values = np.empty(len(times))
        last = 0.0
        for index in range(len(times)):
            last = values[index] = kept[index] * last + noise[index] if index else noise[0]
        return 0.02 * np.exp(0.5 * values)

    return Server(draw, lambda seconds: _lognormal_tail(seconds, 0.02, 0.5))


def bursty(slow_share: float = 0.08, slow_s: float = 0.5) -> Server:
    """Now and then, for ``slow_s`` on average, four times as slow; with the heavy tail of Pareto
    (1.8: of infinite variance) in either state.
    """

    def tail(seconds: float, scale: float) -> float:
        return 1.0 if seconds <= scale else (scale / seconds) ** 1.8

    def draw(dice: np.random.Generator, times: Array) -> Array:
        fast_s = slow_s * (1 - slow_share) / slow_share
        is_slow, at, changes = dice.random() < slow_share, 0.0, [0.0]
        first = is_slow
        while at < times[-1]:
            at += dice.exponential(slow_s if is_slow else fast_s)
            is_slow = not is_slow
            changes.append(at)
        states = (np.searchsorted(changes, times, side="right") - 1) % 2 == (0 if first else 1)
        return np.where(states, 0.04, 0.01) * dice.random(len(times)) ** (-1 / 1.8)

    return Server(
        draw,
        lambda seconds: (1 - slow_share) * tail(seconds, 0.01) + slow_share * tail(seconds, 0.04),
    )


def collecting(every_s: float, stall_s: float, *, is_regular: bool = True) -> Server:
    """Stands still for ``stall_s`` every ``every_s``, at once regular and at random times; calls
    wait for its end. Between, lognormal about 10 ms.
    """

    def draw(dice: np.random.Generator, times: Array) -> Array:
        count = int(times[-1] / every_s) + 2
        if is_regular:
            starts = (dice.random() - 1) * every_s + every_s * np.arange(count + 1)
        else:
            gaps = dice.exponential(every_s - stall_s, 3 * count + 30) + stall_s
            starts = np.cumsum(gaps) - every_s - 20 * every_s
        since = times - starts[np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)]
        wait = np.where((since >= 0) & (since < stall_s), stall_s - since, 0.0)
        return wait + 0.01 * np.exp(0.3 * dice.standard_normal(len(times)))

    def slower(seconds: float) -> float:
        waits = (np.arange(400) + 0.5) / 400 * stall_s
        inside = float(np.mean([_lognormal_tail(seconds - wait, 0.01, 0.3) for wait in waits]))
        share = stall_s / every_s
        return share * inside + (1 - share) * _lognormal_tail(seconds, 0.01, 0.3)

    return Server(draw, slower)


SERVERS: Final[dict[str, Server]] = {
    "independent": independent(),
    "AR(1), 0.1 s": autoregressive(0.1),
    "AR(1), 1 s": autoregressive(1.0),
    "bursty, heavy tail": bursty(),
    "GC, 0.2 s every 3 s": collecting(3.0, 0.2),
    "GC, 0.05 s every 0.5 s": collecting(0.5, 0.05),
    "GC, 0.2 s at random": collecting(2.0, 0.2, is_regular=False),
}


def run_of(server: Server, limits: dict[str, float], seconds: float, seed: int) -> Run:
    """A run against the server, of Poisson arrivals; ``limits`` are of ``Promise``."""
    dice = np.random.default_rng(seed)
    times = np.sort(dice.random(dice.poisson(RATE * seconds))) * seconds
    latencies = server.draw(dice, times)
    calls = [
        CallRecord("f", at, at, at + latency, 200, is_warm=True)
        for at, latency in zip(times.tolist(), latencies.tolist(), strict=True)
    ]
    return make_run(calls, seconds, Promise(**limits))


def make_run(
    calls: list[CallRecord], seconds: float, promise: Promise | None = None, **of_run: object
) -> Run:
    """A steady run of one function ``f``."""
    values: dict[str, object] = {
        "url": "http://127.0.0.1:8000",
        "shape": "steady",
        "rates": {"f": RATE},
        "seconds": seconds,
        "warm_up_s": 0.0,
        "seed": 0,
        "started": 0.0,
        "machine": {},
        "promises": {} if promise is None else {"f": promise},
        "calls": calls,
    }
    return Run(**{**values, **of_run})  # type: ignore[arg-type]
