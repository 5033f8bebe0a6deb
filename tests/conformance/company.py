"""Answers moved by batch-mates: every case of the ``onnx`` package whose first axis can be made
free, in random companies.

    python -m tests.conformance.company [--companies 20] [--every 1] [--seed 0]

The cases have fixed shapes. A case is taken if its model still opens and runs once the first axis
of all that it takes and gives is free, and with it every other axis if that can be; a row is then
the first element of each input. It is served as a bare function of one line. What the load refuses,
since batching would move its answers, is refused rightly and counted by reason; what is loaded must
hold: the row by itself, and in companies of one to twelve random rows of the same and of other
lengths, in calls of random sizes and orders. Values of the others are drawn from the case's own, so
that indices stay indices. A row that fails by itself must fail with batch-mates, and move no other.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import onnx

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError, WakefulError
from runtime.execution.function import Function
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session
from runtime.settings import Settings
from tests.conformance import cases
from tests.conformance.cases import Array, Case

CLOSE: Final = 1e-4
"""Of the largest number of an output, where that is above 1."""

MOST: Final = 12
KINDS: Final = "fiub"

Row = dict[str, Array]
Answer = dict[str, Array] | str


@dataclass(slots=True)
class Tally:
    """What came of some cases; grows with each."""

    held: int = 0
    companies: int = 0
    shared: int = 0
    worst: float = 0.0
    worst_case: str = ""
    drawn: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    unfit: Counter[str] = field(default_factory=Counter)
    ended: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """What came of other cases."""
        self.held += other.held
        self.companies += other.companies
        self.shared += other.shared
        if other.worst > self.worst:
            self.worst, self.worst_case = other.worst, other.worst_case
        self.refused += other.refused
        self.unfit += other.unfit
        self.drawn += other.drawn
        self.moved += other.moved

    def __str__(self) -> str:
        lines = [
            f"cases served: {self.held}, in {self.companies} companies; rows that shared a run: {self.shared}",
            f"answers moved: {len(self.moved)}; furthest {self.worst:.1e} ({self.worst_case or 'none'})",
            f"refused at load, batching would move them: {self.refused.total()} {dict(self.refused.most_common())}",
            f"not taken: {self.unfit.total()} {dict(self.unfit.most_common())}",
            f"random by themselves: {len(self.drawn)} {self.drawn}",
            f"ended ONNX Runtime's process: {len(self.ended)} {self.ended}",
            *self.moved,
        ]
        return "\n".join(lines)


def freed(case: Case) -> Iterator[tuple[bytes, Row]]:
    """The model with as many free axes as may be, then with the first alone, and a row of it; those
    that open and run.
    """
    inputs = case.inputs[0]
    if not inputs or any(array.ndim == 0 or not array.shape[0] for array in inputs.values()):
        return
    row = {name: array[0, ...] for name, array in inputs.items()}
    for is_wide in (True, False):
        model = onnx.ModelProto()
        model.ParseFromString(case.model)
        constant = {tensor.name for tensor in model.graph.initializer}
        fed = [value for value in model.graph.input if value.name not in constant]
        for value in (*fed, *model.graph.output):
            dims = value.type.tensor_type.shape.dim
            if not dims:
                return
            dims[0].dim_param = "n"
            for dim in itertools.islice(dims, 1, None) if is_wide else ():
                dim.Clear()
        del model.graph.value_info[:]
        yield model.SerializeToString(), row


def other(row: Row, free: frozenset[int], draw: random.Random) -> Row:
    """Of other values; axes of one size change together, so that what belongs together still does."""
    sizes = {
        size: size if draw.random() < 0.5 else draw.randint(1, 2 * size + 1)
        for size in sorted(free)
    }
    return {
        name: _filled(array, tuple(sizes.get(size, size) for size in array.shape), draw)
        for name, array in row.items()
    }


def _filled(array: Array, shape: tuple[int, ...], draw: random.Random) -> Array:
    values = array.reshape(-1)
    count = int(np.prod(shape))
    if not len(values):
        return np.zeros(shape, array.dtype)
    found = values[[draw.randrange(len(values)) for _ in range(count)]].reshape(shape)
    return (
        found * array.dtype.type(draw.choice([1, 1, -1, 0.5])) if array.dtype.kind == "f" else found
    )


def distance(alone: Answer, found: Answer) -> float:
    """The furthest that a number moved; infinite for another shape, another text, or an error on
    one side.
    """
    if isinstance(alone, str) or isinstance(found, str):
        return 0.0 if isinstance(alone, str) and isinstance(found, str) else float("inf")
    return max((_apart(alone[name], found[name]) for name in alone), default=0.0)


def _apart(alone: Any, found: Any) -> float:
    alone, found = (
        np.asarray(value, object if isinstance(value, str) else None) for value in (alone, found)
    )
    if alone.shape != found.shape or alone.dtype != found.dtype:
        return float("inf")
    if alone.dtype.kind != "f":
        return 0.0 if np.array_equal(alone, found) else float("inf")
    wanted, given = alone.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (wanted == given) | (np.isnan(wanted) & np.isnan(given))
        apart = np.abs(np.where(same, 0.0, given - wanted))
    largest = float(np.max(np.abs(wanted), where=np.isfinite(wanted), initial=1.0))
    moved = float(np.max(apart, initial=0.0)) / largest
    return float("inf") if np.isnan(moved) else moved


async def examine(
    case: Case, folder: Path, workers: Workers, tally: Tally, companies: int, draw: random.Random
) -> None:
    """One case, as free as it may be."""
    why = "no first axis"
    settings = Settings(folder, folder / "models")
    path = folder / "model.onnx"
    for model, row in freed(case):
        path.write_bytes(model)
        try:
            session = Session(path, CPU_PLAN)
        except LoadError:
            why = "does not open with free axes"
            continue
        if not session.info.batchable or not session.can_run(
            {name: array[None] for name, array in row.items()}
        ):
            why = "does not run on one row"
            continue
        function = None
        for example in (None, row):
            args: dict[str, Any] = {"onnx": "model.onnx", "resources": {"num_cpus": 1}}
            if example is not None:
                args["example"] = {name: array.tolist() for name, array in example.items()}
            try:
                function = await Function.load(
                    FunctionSpec.from_args("f", "/f", args), settings, workers=workers
                )
                break
            except LoadError as error:
                if ", rows: " in error.message:
                    tally.refused[_reason(error.message)] += 1
                    return
                why = "does not run at 32 rows"
            except ValueError:
                why = "an example that JSON cannot say"
        if function is None:
            continue
        try:
            free = frozenset(
                size
                for spec in session.info.inputs
                for dim, size in zip(spec.shape[1:], row[spec.name].shape, strict=True)
                if dim == -1 and size
            )
            await _hold(case.name, function, row, free, tally, companies, draw)
        finally:
            await function.close(1.0)
        return
    tally.unfit[why] += 1


def _reason(message: str) -> str:
    return (
        "as many rows do not come back"
        if "no rows axis" in message
        else "the answer depends on the batch-mates"
    )


async def _hold(
    name: str,
    function: Function,
    row: Row,
    free: frozenset[int],
    tally: Tally,
    companies: int,
    draw: random.Random,
) -> None:
    tally.held += 1
    for _ in range(companies):
        rows = [row, *(other(row, free, draw) for _ in range(draw.randint(1, MOST)))]
        draw.shuffle(rows)
        alone = [(await _answers(function, [each]))[0] for each in rows]
        calls = list(_calls(rows, draw))
        with counting(tally):
            found = list(
                itertools.chain(
                    *await asyncio.gather(*(_answers(function, call) for call in calls))
                )
            )
        tally.companies += 1
        moved = max(map(distance, alone, found))
        if moved > CLOSE:
            again = [(await _answers(function, [each]))[0] for each in rows]
            if max(map(distance, alone, again)) > CLOSE:
                tally.held -= 1
                tally.drawn.append(name)
                return
            tally.moved.append(f"{name}: {moved:.3g}, in calls of {[len(call) for call in calls]}")
            return
        if moved > tally.worst:
            tally.worst, tally.worst_case = moved, name


class counting:  # noqa: N801  # a context manager
    """Counts rows that share runs meanwhile."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._run = Session.run

    def __enter__(self) -> None:
        def run(session: Session, feeds: Any) -> Any:
            rows = len(next(iter(feeds.values())))
            self._tally.shared += rows if rows > 1 else 0
            return self._run(session, feeds)

        Session.run = run  # type: ignore[method-assign]

    def __exit__(self, *of: object) -> None:
        Session.run = self._run  # type: ignore[method-assign]


def _calls(rows: Sequence[Row], draw: random.Random) -> Iterator[Sequence[Row]]:
    at = 0
    while at < len(rows):
        size = draw.choice([1, 1, 2, len(rows)])
        yield rows[at : at + size]
        at += size


async def _answers(function: Function, rows: Sequence[Row]) -> list[Answer]:
    """Of one call."""
    try:
        call = await function.run([dict(row) for row in rows])
    except WakefulError as error:
        return [type(error).__name__] * len(rows)
    return [
        type(row.error).__name__ if row.error is not None else function.answer_of(row)
        for row in call.rows
    ]


def examine_all(some: Iterable[Case], companies: int, seed: int) -> Tally:
    """Case after case in a process next to this one: inputs that no test of its own has seen end
    ONNX Runtime's now and then.
    """
    tally = Tally()
    pool = _pool()
    try:
        for number, case in enumerate(some):
            try:
                tally.add(pool.submit(_alone, case, companies, seed + number).result())
            except BrokenProcessPool:
                tally.ended.append(case.name)
                pool = _pool()
    finally:
        pool.shutdown()
    return tally


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("fork"))


def _alone(case: Case, companies: int, seed: int) -> Tally:
    logging.getLogger("wakeful").setLevel(
        logging.CRITICAL
    )  # rows that fail are logged, and many do
    # ONNX Runtime does so too, past any setting of ours
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    tally, workers = Tally(), Workers(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(examine(case, Path(folder), workers, tally, companies, random.Random(seed)))
    finally:
        workers.close(1.0)
    return tally


@click.command()
@click.option("--companies", default=20, show_default=True, help="Random companies of each case.")
@click.option("--every", default=1, show_default=True, help="Take one case in so many.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", default="", help="Cases whose name has this in it.")
def main(companies: int, every: int, seed: int, only: str) -> None:
    """Prints what came of all cases; exit status 1 if an answer was moved."""
    every_case = itertools.chain(cases.shipped(), cases.generated(), cases.light())
    some = (case for case in every_case if only in case.name)
    tally = examine_all(itertools.islice(some, 0, None, every), companies, seed)
    click.echo(str(tally))
    raise SystemExit(1 if tally.moved else 0)


if __name__ == "__main__":
    main()
