"""The options of a call: which of them are not run, which run alone, and what each
is known by.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.batching.calls import Call, CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import RowQuarantined, WrongDatatype
from runtime.execution.function import Function
from runtime.protocol.messages import InferRequest
from runtime.settings import Settings
from tests.inference import infer

REFUSED = RowQuarantined("not again.")


def twice(x: float) -> float:
    """A stage."""
    return 2 * x


def with_function(root: Path, work: Callable[[Function], Awaitable[Any]]) -> None:
    """Does the work with a function of that stage."""

    async def main() -> None:
        spec = FunctionSpec.from_args(
            "f", "/f", {"graph": [{"stage": "s", "python": f"{__name__}:twice"}]}
        )
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}))
        try:
            await work(function)
        finally:
            await function.close(5)

    asyncio.run(main())


def test_rows_keep_their_index_in_the_body(tmp_path):
    """Rows that fail their check, and rows that are refused, are not run and move no other row's
    index, id or quarantine.
    """

    async def work(function: Function) -> None:
        rows = [{"x": 0.0}, {"x": "no number"}, {"x": 2.0}, {"x": 3.0}, {"x": 4.0}]
        deadline = time.monotonic() + 5.0
        ask = CallOptions(
            "id", deadline, fingerprint=0xABC, run_solo=frozenset({1, 3}), refused={2: REFUSED}
        )
        outcomes, call = await function.call_rows(rows, ask)
        assert isinstance(call, Call)
        assert isinstance(outcomes[1], WrongDatatype)
        assert [outcomes[0], *outcomes[2:]] == [{"s": 0.0}, REFUSED, {"s": 6.0}, {"s": 8.0}]
        assert [(row.index, row.run_solo, row.row_id) for row in call.rows] == [
            (n, n == 3, 0xABC0000 | n) for n in (0, 3, 4)
        ]
        assert (call.request_id, call.deadline) == ("id", deadline)

    with_function(tmp_path, work)


def test_a_call_without_a_mark_has_rows_without_one(tmp_path):
    """And the defaults: the function's own deadline, no row alone."""

    async def work(function: Function) -> None:
        _, call = await function.call_rows([{"x": 1.0}, {"x": 2.0}])
        assert isinstance(call, Call)
        assert [(row.row_id, row.run_solo) for row in call.rows] == [(0, False)] * 2
        assert call.deadline - call.started == pytest.approx(function.spec.limits.request_timeout_s)

    with_function(tmp_path, work)


def test_where_a_row_cannot_fail_alone_the_call_fails(tmp_path):
    """One row by itself, tensors, and rows of which all are refused: nothing is run."""

    async def work(function: Function) -> None:
        ask = CallOptions(refused={0: REFUSED})
        with pytest.raises(RowQuarantined):
            await function.call_row({"x": 1.0}, ask)
        with pytest.raises(RowQuarantined):
            await infer(function, InferRequest("", {"x": np.array([1.0, 2.0])}, (), False, {}), ask)
        assert await function.call_rows([{"x": 1.0}], ask) == ([REFUSED], None)
        assert function.in_flight.total_calls == 0

    with_function(tmp_path, work)
