"""Measures functions on this machine, in this process: what their batches take by rows and length,
what a call takes beside them over HTTP, what a wake takes, and the memory.

Batches run on one worker thread, and once more beside other processes that keep all cores busy.
Rows come as calls do, so many at once in one turn of the event loop, and the engine's own policy
makes batches of them. A profile of a busy machine is one of a busy machine.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from deployments.preflight.load_all import LoadResult, load_all_once
from deployments.scaling.planning.calling import call_at_once
from deployments.scaling.planning.lengths import longer_rows, taken_by
from deployments.scaling.planning.neighbours import busy_neighbours
from deployments.scaling.planning.over_http import (
    LEAST_CALLS,
    Way,
    measure_http,
    way_of,
)
from deployments.scaling.planning.profiles import FunctionProfile, ProfiledBatch
from deployments.scaling.planning.spreads import drift_of, spreads_of
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.errors import LoadError, NotReady, RequestError, WakefulError
from runtime.execution.function import Function
from runtime.graph.assembly import Assembly
from runtime.graph.resolve import ResolvedConfig
from runtime.protocol.json_text import dumps
from runtime.settings import Settings
from runtime.system.cores import usable_cores
from runtime.system.memory import Footprint, free_bytes, trim_memory
from runtime.system.telemetry.counters import BatchRow, FunctionCounters, StageCounters
from wakeful.testing import serve

SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
"""Rows of batches that are measured, up to ``max_batch_size``."""

TAKEN_ROWS: Final = 8
"""Rows at once of a function that takes each alone: so many share a hop at most."""

ROUNDS: Final = 3
"""All points are measured again and again, so that a slow moment of the machine is none of one."""

LEAST_RUNS: Final = 2
"""Of a point in a round, however long they take."""

SECONDS: Final = 40.0
"""For the batches of one function. With its load, its wakes and HTTP that is a minute."""

CROWDED_S: Final = 3.0

USUAL_S: Final = 2.4
"""For a row alone once more, just after it was measured beside others."""

MOST_NEIGHBOURS: Final = 15
"""Processes that keep cores busy beside the function. What more of them do is not known."""

WAKES: Final = 3


class _BatchLog(FunctionCounters):
    """The counts of a function, and its batches one by one: rows, the largest padded row, seconds
    of a worker, and whether a stage ran that shares runs.
    """

    __slots__ = ("batches",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.batches: list[tuple[int, int, float, bool]] = []

    def record_batch(
        self, stage: StageCounters | None, rows: Sequence[BatchRow], seconds: float
    ) -> None:
        """As of ``FunctionCounters``."""
        super().record_batch(stage, rows, seconds)
        widest = max(row.padded_size for row in rows)
        self.batches.append((len(rows), widest, seconds, stage is not None))


@dataclass(slots=True)
class _Point:
    """One place of the table: so many rows at once of one length, and the seconds of each time;
    ``medians`` of each round.
    """

    row: Mapping[str, Any]
    rows: int
    length: float
    body_bytes: int
    seconds: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Wave:
    """What some rows at once took: seconds of a worker, the widest row, and the most rows of a
    batch that a model or a stage of rows ran.
    """

    seconds: float
    length: int
    shared: int


def measure(
    config: ResolvedConfig,
    settings: Settings,
    names: Sequence[str],
    *,
    seconds: float = SECONDS,
    url: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
    on_step: Callable[[str, str], None] = lambda name, step: None,
) -> Iterator[tuple[str, FunctionProfile]]:
    """Measures functions one after the other; blocking.

    Args:
        config: of a file whose functions are right.
        names: of its functions.
        seconds: for the batches of each.
        url: of a server whose way to the functions is measured, with all that stands before it;
            empty: this process serves them on loopback.
        headers: of calls over HTTP, names in lower case.
        on_step: called with a function and what is measured of it now.

    Raises:
        RequestError: a function has no example, its example is no row of one call, or there is no
            answer at the URL.
        LoadError: one does not load, or needs a device that is not free here.
    """
    specs = {spec.name: spec for spec in config.functions}
    rows = {name: example_row(specs[name], config.assemblies[name]) for name in names}
    held = process_bytes()
    with ExitStack() as stack:
        server = url or stack.enter_context(serve(config.file.path)).url
        for name in names:
            on_step(name, "memory")
            probe = _probe(specs[name], settings)
            measured = asyncio.run(
                _measure_batches(
                    specs[name],
                    settings,
                    rows[name],
                    seconds,
                    on_step,
                    replica_bytes=probe.memory_bytes + held,
                )
            )
            on_step(name, "HTTP")
            calls = measure_http(server, specs[name], rows[name], headers)
            way = way_of(calls, statistics.median(measured.points[0].seconds))
            yield name, _profile_of(specs[name], probe, measured, way, is_by_url=bool(url))


def example_row(spec: FunctionSpec, assembly: Assembly) -> dict[str, Any]:
    """The row that is measured, as plain JSON.

    Raises:
        RequestError: it has none, or its file cannot be read.
    """
    if assembly.example is None:
        raise RequestError(
            f"{spec.name!r} declares no `example`, so there is no row to measure. Declare one: a"
            " request as callers send it.",
            where=f"{spec.name}.example",
        )
    row: dict[str, Any] = assembly.example.json_row
    return row


def process_bytes() -> int:
    """Memory of this process, which has the engine and no functions."""
    trim_memory()
    return Footprint.of().own_bytes


def count_neighbours(cores: int, device: str, replica_bytes: int, free: int) -> int:
    """Processes that run beside a function while it is measured: one for each other core, as far as
    half of the free memory goes; none where it computes on another device.
    """
    if device not in ("", "cpu"):
        return 0
    return max(0, min(cores - 1, MOST_NEIGHBOURS, free // 2 // max(1, replica_bytes)))


def _probe(spec: FunctionSpec, settings: Settings) -> LoadResult:
    """The function loaded in a process of its own, as `up` does."""
    (found,) = load_all_once([spec], settings)
    if found.error:
        raise LoadError(f"{spec.name}: {found.error}")
    if found.skipped:
        raise NotReady(f"{spec.name} is not measured here: {found.skipped}.")
    return found


@dataclass(frozen=True, slots=True)
class _Measured:
    """Of one function, in this process.

    Attributes:
        points: the first is a row of the example alone.
        crowded: what that takes while all cores compute, over what it took just after.
    """

    points: Sequence[_Point]
    shares_runs: bool
    device: str
    wake_s: Mapping[str, float]
    notes: tuple[str, ...]
    crowded: float


async def _measure_batches(
    spec: FunctionSpec,
    settings: Settings,
    row: Mapping[str, Any],
    seconds: float,
    on_step: Callable[[str, str], None],
    *,
    replica_bytes: int,
) -> _Measured:
    workers = Workers(1)
    try:
        log = _BatchLog(spec.name)
        function = await Function.load(spec, settings, workers=workers, counters=log)
        try:
            on_step(spec.name, "batches")
            table = _Table(function, log, seconds)
            await table.plan(row)
            await table.fill()
            device = function.running.device
            others = count_neighbours(usable_cores(), device, replica_bytes, free_bytes())
            crowded_s = 0.0
            if others:
                on_step(spec.name, "batches beside others")
                try:
                    with busy_neighbours(spec, settings, row, others):
                        crowded = await table.measure_one(min(CROWDED_S, seconds / 10))
                        crowded_s = statistics.median(crowded)
                except LoadError as error:
                    table.notes.append(f"batches were not measured beside others: {error.message}")
            usual = await table.measure_one(min(USUAL_S, seconds / 10))
            usual_s = statistics.median(usual)
            table.points[0].seconds += usual
        finally:
            await function.close(5.0)
        on_step(spec.name, "wakes")
        wake_s = await _measure_wakes(spec, settings, workers, row, usual_s)
    finally:
        await asyncio.to_thread(workers.close, 5.0)
    return _Measured(
        [point for point in table.points if point.seconds],
        table.shares_runs,
        device,
        wake_s,
        tuple(table.notes),
        max(1.0, crowded_s / usual_s) if usual_s > 0 else 1.0,
    )


class _Table:
    """The points of a function.

    Args:
        seconds: that all of them may take.

    Mutable state: ``points``, ``notes``, ``shares_runs``, filled in turn.
    """

    def __init__(self, function: Function, log: _BatchLog, seconds: float) -> None:
        self.points: list[_Point] = []
        self.notes: list[str] = []
        self.shares_runs = False
        self._function = function
        self._log = log
        self._until = time.perf_counter() + seconds

    async def plan(self, row: Mapping[str, Any]) -> None:
        """Finds which rows and sizes there are, by running each once.

        Raises:
            WakefulError: the example alone is not answered.
        """
        await self._wave(row, 1)  # pays for what is made lazily
        first = await self._wave(row, 1)
        self._add(row, 1, first)
        await self._plan_sizes(row)
        if not first.length:
            self.notes.append("rows of one size: the example's; longer ones were not measured.")
            return
        longest = first.length
        for _, longer in longer_rows(row, taken_by(self._function.validator.validate)):
            try:
                alone = await self._wave(longer, 1)
            except WakefulError as error:
                self.notes.append(f"rows longer than {longest} are refused: {error.message}")
                return
            if alone.length <= longest or not self._has_time(10 * alone.seconds):
                return
            longest = alone.length
            self._add(longer, 1, alone)
            await self._plan_sizes(longer)

    async def fill(self) -> None:
        """Measures all points, round after round, until the time is over."""
        for _ in range(ROUNDS):
            share_s = max(0.0, self._until - time.perf_counter()) / ROUNDS / len(self.points)
            for point in self.points:
                until = time.perf_counter() + share_s
                before = len(point.seconds)
                for run in itertools.count():
                    if run >= LEAST_RUNS and time.perf_counter() >= until:
                        break
                    point.seconds.append((await self._wave(point.row, point.rows)).seconds)
                    if not self._has_time(0.0):
                        break
                point.medians.append(statistics.median(point.seconds[before:]))
        for point in self.points:
            point.seconds[:] = point.seconds[1:] or point.seconds  # the first was to find it

    async def measure_one(self, seconds: float) -> list[float]:
        """Worker seconds of one row of the example, now, again and again."""
        point, until = self.points[0], time.perf_counter() + seconds
        taken: list[float] = []
        while len(taken) < LEAST_CALLS or time.perf_counter() < until:
            taken.append((await self._wave(point.row, point.rows)).seconds)
        return taken

    async def _plan_sizes(self, row: Mapping[str, Any]) -> None:
        most = self._function.spec.batching.max_batch_size
        for rows in SIZES[1:]:
            if rows > (most if self.shares_runs else TAKEN_ROWS):
                return
            try:
                wave = await self._wave(row, rows)
            except WakefulError as error:
                self.notes.append(f"{rows} rows at once are refused: {error.message}")
                return
            if wave.shared == rows:
                self.shares_runs = True
            elif self.shares_runs:
                return  # it is cut into smaller ones
            if not self._has_time(ROUNDS * LEAST_RUNS * wave.seconds):
                self.notes.append(f"batches of {rows} rows and more take longer than was left.")
                return
            self._add(row, rows, wave)

    def _has_time(self, seconds: float) -> bool:
        return time.perf_counter() + seconds < self._until

    def _add(self, row: Mapping[str, Any], rows: int, wave: _Wave) -> None:
        self.points.append(_Point(row, rows, wave.length, len(dumps(row)), [wave.seconds]))

    async def _wave(self, row: Mapping[str, Any], rows: int) -> _Wave:
        self._log.batches.clear()
        await call_at_once(self._function, row, rows)
        batches = self._log.batches
        padded = [batch for batch in batches if batch[1]]  # the models', whose cost is bounded
        return _Wave(
            sum(seconds for _, _, seconds, _ in batches),
            max((widest for _, widest, _, _ in batches), default=0),
            max((count for count, _, _, shares in padded or batches if shares), default=0),
        )


async def _measure_wakes(
    spec: FunctionSpec,
    settings: Settings,
    workers: Workers,
    row: Mapping[str, Any],
    usual_s: float,
) -> dict[str, float]:
    """Seconds by phase of a load of what was loaded before, as the host wakes it; ``first``: what
    its first call takes longer than others. Of several, the one in the middle.
    """
    found = []
    for _ in range(WAKES):
        began = time.perf_counter()
        function = await Function.load(spec, settings, workers=workers, warm_up=False)
        try:
            loaded_s = time.perf_counter() - began
            await call_at_once(function, row, 1)
            first_s = max(0.0, time.perf_counter() - began - loaded_s - usual_s)
        finally:
            await function.close(5.0)
        found.append({**function.load_s, "first": first_s, "total": loaded_s + first_s})
    return sorted(found, key=lambda wake: wake["total"])[len(found) // 2]


def _profile_of(
    spec: FunctionSpec, probe: LoadResult, measured: _Measured, way: Way, *, is_by_url: bool
) -> FunctionProfile:
    spreads = spreads_of([point.seconds for point in measured.points])
    batches = tuple(
        ProfiledBatch(
            length=point.length,
            body_bytes=point.body_bytes,
            rows=point.rows,
            seconds=round(statistics.median(point.seconds), 7),
            spread=_rounded(spread, 4),
            runs=len(point.seconds),
        )
        for point, spread in zip(measured.points, spreads, strict=True)
    )
    notes = list(measured.notes)
    if called := spec.deployed.calls:
        notes.append(
            f"it calls {', '.join(called)}: their time is in a call of it, their work is not"
            " counted as theirs."
        )
    if probe.gpu_memory_mb:
        notes.append(
            "one replica had the GPU for itself; how several slow each other is not known."
        )
    return FunctionProfile(
        version=version_hash(spec),
        device=measured.device,
        batches=batches,
        drift=round(drift_of([point.medians for point in measured.points]), 4),
        shares_runs=measured.shares_runs,
        crowded=round(measured.crowded, 4),
        http="by URL" if is_by_url else "in process",
        call_s=round(way.call_s, 7),
        served=round(way.served, 4),
        idle_extra_s=tuple(_rounded(point, 7) for point in way.idle_extra_s),
        beside_s=_rounded(way.beside_s, 7),
        beside_cpu_s=round(way.beside_cpu_s, 7),
        wake_s={phase: round(seconds, 6) for phase, seconds in measured.wake_s.items()},
        memory_bytes=probe.memory_bytes,
        mapped_bytes=probe.mapped_bytes,
        gpu_memory_mb=probe.gpu_memory_mb,
        notes=tuple(notes),
    )


def _rounded(values: Sequence[float], digits: int) -> tuple[float, ...]:
    return tuple(round(value, digits) for value in values)
