"""The counts of functions as Triton's *statistics extension* has them: what its clients, and
perf_analyzer, ask for at ``/v2/models/NAME/stats``.

What there is no such thing of here is 0: answers from a cache. The time of a call's parts is that
of ``Server-Timing``: a batch's making and the stages before the models are ``compute_input``, the
models ``compute_infer``, the stages behind them ``compute_output``.
"""

from __future__ import annotations

import operator
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self

from runtime.system.telemetry.counters import FAILED, FunctionCounters

VERSION = "1"
"""The only one of each function, in the protocol's word."""


@dataclass(frozen=True, slots=True)
class FunctionStatistics:
    """What was counted of one function, in one process or in several together.

    Attributes:
        succeeded, failed: calls over HTTP, with an answer and with an error.
        computed: those whose rows were computed.
        rows: accepted, those from other functions among them.
        total_s, failed_s: seconds of all calls, and of those that failed.
        queue_s, input_s, infer_s, output_s: seconds of the computed ones by part.
        batches: by rows of a batch of its last stage that makes batches: how many, and their
            seconds.
        last_at: when the last call was over, seconds since the epoch; 0: there was none.
        wakes: cold starts.
        seconds: calls by their seconds, a count for each bucket of ``counters.SECONDS`` and one for
            what is above all; empty: there was none.
        errors: calls that were answered with an error, by its code.
    """

    succeeded: int = 0
    failed: int = 0
    computed: int = 0
    rows: int = 0
    total_s: float = 0.0
    failed_s: float = 0.0
    queue_s: float = 0.0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    batches: Mapping[int, tuple[int, float]] = field(default_factory=lambda: MappingProxyType({}))
    last_at: float = 0.0
    wakes: int = 0
    seconds: tuple[int, ...] = ()
    errors: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, counters: FunctionCounters) -> Self:
        """What one process has counted, as far as it is counted now."""
        calls, stages = counters.calls, list(counters.stages.values())
        codes = dict(calls.codes)
        failed = sum(count for code, count in codes.items() if code >= FAILED)
        since = time.monotonic() - calls.answered_at
        return cls(
            succeeded=sum(codes.values()) - failed,
            failed=failed,
            computed=sum(calls.queue_s.counts),
            rows=counters.rows,
            total_s=calls.total_s.sum,
            failed_s=calls.failed_s,
            queue_s=calls.queue_s.sum,
            input_s=calls.batch_s.sum + calls.before_s,
            infer_s=calls.model_s.sum,
            output_s=calls.behind_s,
            batches=dict(stages[-1].sizes) if stages else {},
            last_at=time.time() - since if calls.answered_at else 0.0,
            wakes=counters.wakes,
            seconds=tuple(calls.total_s.counts) if calls.answered_at else (),
            errors=dict(calls.errors),
        )

    @classmethod
    def from_list(cls, data: Iterable[Any]) -> Self:
        """Return what ``to_list`` was made from, in another process."""
        numbers, (batches, last_at, seconds, errors) = data
        return cls(
            **dict(zip(SUMS, numbers, strict=True)),
            batches={rows: (count, took_s) for rows, count, took_s in batches},
            last_at=last_at,
            seconds=tuple(seconds),
            errors=errors,
        )

    def to_list(self) -> list[Any]:
        """Plain data, for another process."""
        numbers = [getattr(self, name) for name in SUMS]
        batches = [[rows, *of] for rows, of in self.batches.items()]
        return [numbers, [batches, self.last_at, list(self.seconds), dict(self.errors)]]

    def __add__(self, other: FunctionStatistics) -> FunctionStatistics:
        batches = dict(self.batches)
        for rows, (count, seconds) in other.batches.items():
            before, before_s = batches.get(rows, (0, 0.0))
            batches[rows] = before + count, before_s + seconds
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return replace(
            self,
            **sums,
            batches=batches,
            last_at=max(self.last_at, other.last_at),
            seconds=_add_counts(self.seconds, other.seconds),
            errors=dict(Counter(self.errors) + Counter(other.errors)),
        )

    def to_triton(self, name: str) -> dict[str, Any]:
        """An element of ``model_stats``, of the function of that name."""
        return {
            "name": name,
            "version": VERSION,
            "last_inference": round(self.last_at * 1000),
            "inference_count": self.rows,
            "execution_count": sum(count for count, _ in self.batches.values()) or self.computed,
            "inference_stats": {
                "success": _duration(self.succeeded, self.total_s - self.failed_s),
                "fail": _duration(self.failed, self.failed_s),
                "queue": _duration(self.computed, self.queue_s),
                "compute_input": _duration(self.computed, self.input_s),
                "compute_infer": _duration(self.computed, self.infer_s),
                "compute_output": _duration(self.computed, self.output_s),
                "cache_hit": _duration(0, 0.0),
                "cache_miss": _duration(0, 0.0),
            },
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": _duration(count, 0.0),
                    "compute_infer": _duration(count, seconds),
                    "compute_output": _duration(count, 0.0),
                }
                for rows, (count, seconds) in sorted(self.batches.items())
            ],
            "memory_usage": [],
        }


ENDED_S: Final = 30.0
"""A process that has told nothing for so long has ended, and its counts go on as those of the
past.
"""


MOST_SILENT: Final = 16
"""Processes that have told nothing for so long, and may tell again: one that was stopped or too
busy has not counted twice. Of further ones, the longest silent first, the counts alone are kept.
"""


class StatisticsTable:
    """What all processes have told that serve the functions, in the one that adds it up.

    Mutable state: ``_told`` (by process: when, and the counts by function), ``_silent`` (likewise
    without a time, of those that have told nothing for ``ENDED_S``, the longest silent first),
    ``_ended`` (the counts of processes that are gone, by function).
    """

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, dict[str, FunctionStatistics]]] = {}
        self._silent: dict[str, dict[str, FunctionStatistics]] = {}
        self._ended: dict[str, FunctionStatistics] = {}

    def keep(self, process: str, told: Mapping[str, list[Any]], now: float) -> None:
        """A process has told what it has counted of some functions."""
        _, known = self._told.get(process) or (now, self._silent.pop(process, {}))
        known.update({name: FunctionStatistics.from_list(data) for name, data in told.items()})
        self._told[process] = now, known
        for other, (at, counted) in list(self._told.items()):
            if at < now - ENDED_S:
                del self._told[other]
                self._silent[other] = counted
        while len(self._silent) > MOST_SILENT:
            for name, one in self._silent.pop(next(iter(self._silent))).items():
                self._ended[name] = self._ended.get(name, FunctionStatistics()) + one

    def forget(self, declared: Iterable[str]) -> None:
        """The functions that are not among these are gone."""
        names = set(declared)
        for counted in self._tables():
            for name in counted.keys() - names:
                del counted[name]

    def _tables(self) -> list[dict[str, FunctionStatistics]]:
        told = (counted for _, counted in self._told.values())
        return [self._ended, *self._silent.values(), *told]

    def of(self, name: str) -> FunctionStatistics:
        """A function in all processes together."""
        found = [counted[name] for counted in self._tables() if name in counted]
        return sum(found, start=FunctionStatistics())

    def all(self) -> dict[str, FunctionStatistics]:
        """Every function that was counted anywhere, likewise."""
        found: dict[str, FunctionStatistics] = {}
        for counted in self._tables():
            for name, one in counted.items():
                found[name] = found[name] + one if name in found else one
        return found


SUMS = (
    *("succeeded", "failed", "computed", "rows", "total_s", "failed_s"),
    *("queue_s", "input_s", "infer_s", "output_s", "wakes"),
)


ReadStatistics = Callable[[str], Awaitable[Mapping[str, FunctionStatistics]]]
"""Returns what was counted of the function of that name, or, for an empty one, of all that clients
may call, by name.
"""


def model_statistics(found: Mapping[str, FunctionStatistics]) -> dict[str, Any]:
    """The answer of Triton's statistics extension."""
    return {"model_stats": [one.to_triton(name) for name, one in found.items()]}


def _add_counts(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Of the same buckets, or of none."""
    return tuple(map(operator.add, one, other)) if one and other else one or other


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": max(0, round(seconds * 1e9))}
