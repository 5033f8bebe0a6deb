"""Calls of a function in the process of its caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.stages.function_stage import call_in_process


class Called:
    """A function that keeps the options of its calls."""

    spec = FunctionSpec.from_args(
        "called",
        "/called",
        {
            "graph": [{"stage": "s", "python": "tests.basic_stages:double"}],
            "limits": {"request_timeout_s": 10},
        },
    )

    def __init__(self) -> None:
        self.options: list[CallOptions] = []

    async def call_rows(
        self, data: Sequence[Any], options: CallOptions, *, as_values: bool
    ) -> tuple[list[Any], None]:
        """Each row is its own answer."""
        assert as_values
        self.options.append(options)
        return list(data), None


@pytest.mark.parametrize(("left_s", "taken_s"), [(2.0, 2.0), (60.0, 10.0), (float("inf"), 10.0)])
def test_a_called_function_has_its_callers_time_and_no_more_than_its_own(
    left_s: float, taken_s: float
) -> None:
    """By one deadline, which is the caller's where that comes first."""
    function, now = Called(), time.monotonic()
    options = CallOptions("id", now + left_s)
    assert asyncio.run(call_in_process(function, [{"x": 1.0}], options)) == [{"x": 1.0}]
    (seen,) = function.options
    assert seen.request_id == "id"
    if taken_s == left_s:
        assert seen.deadline == options.deadline
    else:
        assert now + taken_s <= seen.deadline <= time.monotonic() + taken_s
