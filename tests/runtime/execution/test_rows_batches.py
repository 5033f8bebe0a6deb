"""A stage that takes all rows is batched as `batching` says, whatever it costs a row."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function import Function
from runtime.settings import Settings
from wakeful import Rows

HERE = __name__
CALLS = 64
SIZES: list[int] = []
ALL_WAIT = threading.Event()


def heavy(n: Rows[int]) -> Rows[int]:
    """Does not come back before all have called, as if it took long; remembers with how many rows
    it was called.
    """
    SIZES.append(len(n))
    ALL_WAIT.wait(10)
    return [2 * each for each in n]


def same(n: int) -> int:
    """A row at a time, and quick."""
    return n


def same_too(m: int) -> int:
    """The same."""
    return m


@pytest.mark.parametrize(
    "graph",
    [
        [{"stage": "h", "python": f"{HERE}:heavy"}],
        [{"stage": "n", "python": f"{HERE}:same"}, {"stage": "h", "python": f"{HERE}:heavy"}],
        [
            {"stage": "h", "python": f"{HERE}:heavy"},
            {"stage": "a", "python": f"{HERE}:same_too", "inputs": {"m": "h"}},
        ],
    ],
    ids=["run_solo", "behind a stage of single rows", "before one"],
)
@pytest.mark.parametrize(("size", "expected"), [(32, 3), (8, 9)])
def test_a_slow_stage_that_takes_all_rows_gets_full_batches(tmp_path, graph, size, expected):
    """One row leaves at once, the others in full batches once it is back; not 64 batches of one."""
    SIZES.clear()
    ALL_WAIT.clear()
    args: dict[str, Any] = {
        "graph": graph,
        "batching": {"max_batch_size": size},
        "resources": {"num_cpus": 1},
    }
    spec = FunctionSpec.from_args("f", "/f", args)

    async def main() -> list[Any]:
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
        try:
            calls = [asyncio.ensure_future(function.call_row({"n": n})) for n in range(CALLS)]
            while not SIZES or function.waiting_rows < CALLS - SIZES[0]:
                await asyncio.sleep(0.001)
            ALL_WAIT.set()
            return [next(iter(answer.values())) for answer, _ in await asyncio.gather(*calls)]
        finally:
            await function.close(5)

    assert asyncio.run(main()) == [2 * n for n in range(CALLS)]
    assert sum(SIZES) == CALLS
    assert max(SIZES) == size
    assert len(SIZES) <= expected


def test_an_array_of_rows_is_one_batch(tmp_path):
    """A call of 32 rows is one call of the stage."""
    SIZES.clear()
    ALL_WAIT.set()
    spec = FunctionSpec.from_args("f", "/f", {"graph": [{"stage": "h", "python": f"{HERE}:heavy"}]})

    async def main() -> None:
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
        await function.call_rows([{"n": n} for n in range(32)])
        await function.close(5)

    asyncio.run(main())
    assert SIZES == [32]
