"""Random graphs against their plain evaluation: every answer alone and with batch-mates, over JSON and
over v2, and nothing left inside.

``python -m tests.graphs.random --graphs 10000 --seed 1`` prints how many there were and what came
of their rows; of a graph that differs, the declaration, the code and the row, for the smallest size
at which its seed differs still.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from runtime.batching.calls import DEFAULT_OPTIONS, CallOptions
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.split_stages import expand
from runtime.errors import DeadlineExceeded, Overloaded, RequestError, WakefulError
from runtime.execution.function import Function
from runtime.execution.streaming import StreamSource
from runtime.graph.assembly import assemble
from runtime.graph.resolve import link_callees
from runtime.graph.resolved_stages import ResolvedModel
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.onnx.model_info import inspect_model
from runtime.protocol.json_text import dumps, loads
from runtime.protocol.messages import InferRequest
from runtime.settings import Settings
from tests.graphs import models
from tests.graphs.made import OBJECTS, Project, a_row, make
from tests.graphs.plain import Expected, evaluate
from tests.graphs.values import plain
from tests.inference import infer
from tests.wire_callees import WireCallees, load_function

SIZE = 7
"""Stages of a function, at most."""

AT_ONCE = 8
"""Graphs that share the workers; most of their time is naps."""

FOLDER = tempfile.TemporaryDirectory(prefix="graphs")
"""Of the models; it goes with the process."""

SETTINGS = Settings.read({"WAKEFUL_ROOT": FOLDER.name})
models.write(Path(FOLDER.name))


class Differs(AssertionError):
    """What was answered is not what the plain evaluation says."""


class Counts(Counter[str]):
    """Graphs, stages by form, rows by what came of them."""

    def __str__(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in sorted(self.items()))


def specs_of(project: Project) -> list[FunctionSpec]:
    """The functions, linked, the first of them first.

    Raises:
        Differs: check refuses what is right.
    """
    declared = [
        FunctionSpec.from_args(made.name, f"/v2/models/{made.name}", made.args)
        for made in project.functions
    ]
    linked, faults = link_callees(expand(declared), SETTINGS)
    faults += [
        (spec.name, fault) for spec in linked for fault in assemble(spec, SETTINGS, _read).issues
    ]
    if faults:
        raise Differs(
            f"check refuses it: {[(name, fault.stage, fault.key, fault.message) for name, fault in faults]}"
        )
    return sorted(linked, key=lambda spec: spec.name != project.functions[0].name)


def _read(path: Path) -> ResolvedModel:
    return ResolvedModel(path, inspect_model(path))


@asynccontextmanager
async def loaded(
    specs: list[FunctionSpec], workers: Workers, way: str
) -> AsyncIterator[tuple[Function, list[Function]]]:
    """The first function, and it with all that it calls: in one library, or loaded for it alone,
    and called in the process or over a wire.
    """
    if way == "library":
        library = FunctionLibrary(
            [DeclaredFunction(spec) for spec in specs], SETTINGS, workers=workers, budget_bytes=None
        )
        try:
            for spec in specs:
                await library.load(spec.name)
            async with library.use(specs[0].name) as function:
                yield (
                    function,
                    [
                        found
                        for spec in specs
                        if (found := library.entries.require(spec.name).function) is not None
                    ],
                )
        finally:
            await library.close()
        return
    function = await load_function(
        specs[0], SETTINGS, over_wire=way == "wire", workers=workers, warm_up=False
    )
    try:
        yield function, list(_with_callees(function))
    finally:
        await function.close(5)


def _with_callees(function: Function) -> list[Function]:
    callees = function._own_callees
    inner = callees.inner if isinstance(callees, WireCallees) else callees
    called = getattr(inner, "_functions", {}).values()
    return [function, *(each for one in called for each in _with_callees(one))]


async def check(project: Project, seed: int, workers: Workers, counts: Counts) -> None:
    """Some rows alone, then many callers at once, some of which leave or have little time.

    Raises:
        Differs: an answer, an item or an error is another, or something is left inside.
    """
    rng = random.Random(f"rows {seed}")
    made = project.functions[0]
    rows = [a_row(rng, made) for _ in range(6)]
    expected = [evaluate(project, row) for row in rows]
    for function in project.functions:
        counts.update(f"{stage.form} stages" for stage in function.stages)
        counts.update(
            f"stages with {key}"
            for stage in function.stages
            for key in ("each", "when", "deployment")
            if key in stage.declared
        )
    way = rng.choice(("library", "process", "wire"))
    counts[f"by {way}"] += 1
    specs = specs_of(project)
    async with loaded(specs, workers, way) as (function, every):
        caller = _Caller(function, made.fields, rows, expected, rng, counts)
        # also alone: the elements of one row may be more calls than a split stage takes
        caller.may_be_refused = min(spec.limits.max_rows for spec in specs) < 100
        for number in range(3):
            await caller.one(number, DEFAULT_OPTIONS)
            if not function.streams:
                await caller.over_v2(number)
        await asyncio.gather(*[caller.somehow() for _ in range(12)])
        await _drained(every)
    counts["graphs"] += 1


_SCALARS = {"int": np.int64, "bool": np.bool_, "float": np.float64, "str": object, "Letter": object}


def _tensor_of(kind: str, value: Any) -> np.ndarray[Any, Any] | None:
    """One row's tensor of a field; None: it has none."""
    if kind in OBJECTS:
        return np.array([dumps(value)], object)
    dtype: Any = (
        _SCALARS[kind.removeprefix("list[").removeprefix("list[").rstrip("]")]
        if (kind != "Numbers")
        else np.int64
    )
    try:
        array = np.asarray(value, dtype)
    except ValueError:  # lists of unlike length
        return None
    rank = kind.count("list[") or int(kind == "Numbers")
    if array.ndim > rank:
        return None
    return array.reshape(1, *array.shape, *[0] * (rank - array.ndim))


def _has_no_tensor(expected: Expected) -> bool:
    """Whether an answer has None, or lists of unlike length."""
    for value in (expected.answer or {}).values():
        try:
            flat = np.asarray(plain(value)).reshape(-1).tolist()
        except ValueError:
            return True
        if any(one is None for one in flat):
            return True
    return False


async def _drained(functions: list[Function]) -> None:
    until = time.monotonic() + 5
    while True:
        inside = {
            f.spec.name: (
                f.in_flight.calls,
                f.in_flight.rows,
                f._batcher._inside,
                len(f._batcher.on_loop or ()),
                f.waiting_rows,
            )
            for f in functions
        }
        if not any(any(left) for left in inside.values()):
            return
        if time.monotonic() > until:
            raise Differs(f"something is left inside: {inside}")
        await asyncio.sleep(0.001)


class _Caller:
    """Callers of one function; together they may be more than a function takes whose ``max_rows``
    is small.
    """

    may_be_refused = False

    def __init__(
        self,
        function: Function,
        fields: dict[str, str],
        rows: list[dict[str, Any]],
        expected: list[Expected],
        rng: random.Random,
        counts: Counts,
    ) -> None:
        self.function, self.fields, self.rows, self.expected, self.rng, self.counts = (
            function,
            fields,
            rows,
            expected,
            rng,
            counts,
        )

    async def somehow(self) -> None:
        """One row or many; to the end, or until the caller leaves, or with little time."""
        rng = self.rng
        await asyncio.sleep(rng.choice((0, 0, 0.001)))
        many = [rng.randrange(len(self.rows)) for _ in range(rng.choice((1, 1, 2, 6)))]
        mood, after_s = rng.random(), rng.choice((0, 0.0005, 0.002, 0.005))
        ask = (
            DEFAULT_OPTIONS
            if mood > 0.2
            else CallOptions(deadline=time.monotonic() + after_s + 0.0001)
        )
        work = (
            self.one(many[0], ask)
            if len(many) == 1 or self.function.streams
            else self.many(many, ask)
        )
        if mood < 0.85:
            await work
            return
        task = asyncio.create_task(work)
        await asyncio.sleep(after_s)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            self.counts["callers left"] += 1

    async def one(self, number: int, ask: CallOptions) -> None:
        """One row by itself."""
        if self.function.streams:
            await self._stream(number, ask)
            return
        try:
            answer, _ = await self.function.call_row(dict(self.rows[number]), ask)
        except WakefulError as error:
            self._compare(number, error, ask)
        else:
            self._compare(number, answer, ask)

    async def over_v2(self, number: int) -> None:
        """One row in tensors, if it can be; an answer that no tensor carries is refused as that."""
        row, expected = self.rows[number], self.expected[number]
        tensors = {name: _tensor_of(self.fields[name], value) for name, value in row.items()}
        if any(tensor is None for tensor in tensors.values()):
            return
        asked = InferRequest("", tensors, (), False, {})  # type: ignore[arg-type]  # none is None
        try:
            response, _ = await infer(self.function, asked)
        except RequestError as error:
            if error.where == "outputs" and _has_no_tensor(expected):
                self.counts["rows that no tensor carries"] += 1
            elif not self._is_one(error, expected):
                self._differ(number, f"over v2 {error!r}")
            return
        except WakefulError as error:
            if not self._may_be_refused(error, DEFAULT_OPTIONS) and not self._is_one(
                error, expected
            ):
                self._differ(number, f"over v2 {error!r}")
            return
        answer = {}
        for spec in self.function.protocol.outputs:
            is_json = self.function.answer[spec.name].container == "object"
            (value,) = response.outputs[spec.name].tolist()
            answer[spec.name] = loads(value) if is_json else value
        wanted = expected.answer if expected.values is None else expected.values
        if wanted is None or loads(dumps(answer)) != loads(dumps(plain(wanted))):
            self._differ(number, f"over v2 {answer}")
        self.counts["rows answered over v2"] += 1

    async def many(self, numbers: list[int], ask: CallOptions) -> None:
        """Rows of one call."""
        try:
            outcomes, _ = await self.function.call_rows(
                [dict(self.rows[number]) for number in numbers], ask
            )
        except WakefulError as error:
            for number in numbers:
                self._compare(number, error, ask)
            return
        for number, outcome in zip(numbers, outcomes, strict=True):
            self._compare(number, outcome, ask)

    async def _stream(self, number: int, ask: CallOptions) -> None:
        expected, items = self.expected[number], []
        stops_after = self.rng.choice((100, 100, 100, 2))
        error: WakefulError | None = None
        row = self.function.validator.validate(dict(self.rows[number]))
        try:
            async with StreamSource(self.function, row, ask) as streaming:
                while len(items) < stops_after and (taken := await streaming.take()):
                    items += [plain(item) for item in taken]
        except WakefulError as raised:
            error = raised
        is_late = error is not None and (
            self._is_late(error, ask) or self._may_be_refused(error, ask)
        )
        is_short = is_late or (error is None and stops_after < 100)
        same = (
            tuple(items) == expected.items[: len(items)]
            if is_short
            else tuple(items) == expected.items
        )
        if (
            not same
            or (error is None and expected.codes and not is_short)
            or (error is not None and not is_late and not self._is_one(error, expected))
        ):
            self._differ(number, f"items {items}, then {error!r}")
        self.counts[
            "rows late" if is_late else "rows refused or failed" if error else "rows streamed"
        ] += 1

    def _is_late(self, outcome: object, ask: CallOptions) -> bool:
        return isinstance(outcome, DeadlineExceeded) and ask is not DEFAULT_OPTIONS

    def _may_be_refused(self, outcome: object, ask: CallOptions) -> bool:
        """For too many rows, or because the little time that the call has is not enough."""
        return isinstance(outcome, Overloaded) and (
            self.may_be_refused or ask is not DEFAULT_OPTIONS
        )

    def _compare(
        self, number: int, outcome: dict[str, Any] | WakefulError, ask: CallOptions
    ) -> None:
        expected = self.expected[number]
        if self._is_late(outcome, ask):
            self.counts["rows late"] += 1
        elif self._may_be_refused(outcome, ask):
            self.counts["rows too many"] += 1
        elif isinstance(outcome, WakefulError):
            if not self._is_one(outcome, expected):
                self._differ(number, f"{outcome!r} ({outcome.code}, {outcome.where})")
            self.counts["rows refused or failed"] += 1
        elif expected.answer is None or plain(outcome) != plain(expected.answer):
            self._differ(number, repr(plain(outcome)))
        else:
            self.counts["rows answered"] += 1

    @staticmethod
    def _is_one(error: WakefulError, expected: Expected) -> bool:
        return error.code in expected.codes

    def _differ(self, number: int, found: str) -> None:
        expected = self.expected[number]
        reference = (
            expected.answer
            if expected.answer is not None
            else f"items {expected.items}, then one of {set(expected.codes)}"
        )
        raise Differs(f"row {self.rows[number]}\n  answered {found}\n  expected {plain(reference)}")


async def run(seeds: range, counts: Counts, *, report_every_s: float = 1e9) -> None:
    """Every graph.

    Raises:
        Differs: of the first that does, with all of it.
    """
    workers = Workers(3)
    reported = time.monotonic()
    try:
        for first in range(0, len(seeds), AT_ONCE):
            sizes = {
                seed: random.Random(seed).randint(1, SIZE)
                for seed in seeds[first : first + AT_ONCE]
            }
            found = await asyncio.gather(
                *[_differs(seed, size, workers, counts) for seed, size in sizes.items()]
            )
            for (seed, size), why in zip(sizes.items(), found, strict=True):
                if why is not None:
                    raise Differs(await _smallest(seed, size, why, workers))
            if time.monotonic() - reported > report_every_s:
                reported = time.monotonic()
                print(counts, flush=True)
    finally:
        workers.close(5)


async def _smallest(seed: int, size: int, why: str, workers: Workers) -> str:
    """The report of a seed that differs."""
    for smaller in range(1, size):
        found = await _differs(seed, smaller, workers, Counts())
        if found is not None:
            size, why = smaller, found
            break
    return f"seed {seed}, size {size}: {why}\n\n{make(seed, size)}"


async def _differs(seed: int, size: int, workers: Workers, counts: Counts) -> str | None:
    project = make(seed, size)
    try:
        await check(project, seed, workers, counts)
    except Differs as differs:
        return str(differs)
    except Exception as error:  # whatever it is, the graph is wanted with it
        logging.disable(logging.NOTSET)
        logging.exception("seed %d, size %d", seed, size)
        return f"{type(error).__name__}: {error}"
    finally:
        del sys.modules[project.module.__name__]
    return None


def quietly(seeds: range, counts: Counts, **more: Any) -> None:
    """``run``, without the log of a thousand stages that failed by chance."""
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(run(seeds, counts, **more))
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="of the first graph; the others follow")
    args = parser.parse_args()
    counts, began = Counts(), time.monotonic()
    try:
        quietly(range(args.seed, args.seed + args.graphs), counts, report_every_s=30)
    except Differs as differs:
        print(f"{counts}\n\nDIFFERS: {differs}", flush=True)
        sys.exit(1)
    print(f"{counts}; none differs; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
