"""What a body becomes in memory is counted where the body is: before a stage takes it, while rows
wait with it, and never for longer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.resolve import link_callees
from runtime.settings import Settings
from tests.sleepers import PATIENCE_S, Served, run, serving
from wakeful import RequestError, Rows, Shape, reserve

MB = 1_000_000
LIMITS = {"max_body_bytes": 1000, "max_ongoing_bytes": 10 * MB}

BEGUN, MAY_END = threading.Event(), threading.Event()

Large = Annotated[NDArray[np.uint8], Shape(-1)]


def reserving(size: int, waits: bool = False) -> int:
    """Says what it takes, and is at work until it may end."""
    reserve(size)
    if waits:
        BEGUN.set()
        assert MAY_END.wait(PATIENCE_S)
    return size


async def reserving_on_loop(size: int, waits: bool = False) -> int:
    """The same as a coroutine, in a thread of its own."""
    return await asyncio.to_thread(reserving, size, waits)


def reserving_all(size: Rows[int], waits: Rows[bool]) -> Rows[int]:
    """The same of all rows."""
    reserve(sum(size))
    if any(waits):
        BEGUN.set()
        assert MAY_END.wait(PATIENCE_S)
    return size


def large(size: int, waits: bool = False) -> Large:
    """Becomes large without a word."""
    return np.zeros(size, np.uint8)


def many(size: int, waits: bool = False) -> list[Large]:
    """Becomes many that are large together."""
    return [np.zeros(size // 10, np.uint8) for _ in range(10)]


def pair(large: Large) -> tuple[int, int]:
    """All that is needed of it behind this."""
    return len(large), int(large.sum())


async def length(made: Any, waits: bool = False) -> int:
    """Of what it is given, which waits here."""
    if waits:
        BEGUN.set()
        await asyncio.to_thread(MAY_END.wait, PATIENCE_S)
    return len(made)


def spec(*stages: str) -> FunctionSpec:
    """A function of such stages; the last takes what the first gave, if that is another."""
    graph: list[dict[str, Any]] = [
        {"stage": stage, "python": f"{__name__}:{stage}"} for stage in stages
    ]
    if len(stages) > 1:
        graph[-1]["inputs"] = {"made": stages[-2]}
    return FunctionSpec.from_args(
        "f", "/v2/models/f", {"graph": graph, "limits": LIMITS, "resources": {"num_cpus": 2}}
    )


async def call(served: Served, size: int, waits: bool = False) -> httpx.Response:
    """One row."""
    return await served.client.post("/v2/models/f", json={"size": size, "waits": waits})


def next_to(
    work: Callable[[Served], Awaitable[None]], size: int
) -> Callable[[Served], Awaitable[None]]:
    """``work`` while a call of that size is held where its stage waits; then nothing is held any
    more.
    """

    async def both(served: Served) -> None:
        await served.library.load("f")
        BEGUN.clear()
        MAY_END.clear()
        first = asyncio.create_task(call(served, size, waits=True))
        assert await asyncio.to_thread(BEGUN.wait, PATIENCE_S)
        try:
            await work(served)
        finally:
            MAY_END.set()
            answer = await first
        assert answer.status_code == 200, answer.text
        assert (await call(served, 10 * MB)).status_code == 200

    return both


@pytest.mark.parametrize(
    "stages",
    [
        ("reserving",),
        ("reserving_on_loop",),
        ("reserving_all",),
        ("large", "length"),
        ("many", "length"),
    ],
    ids=" ".join,
)
def test_what_a_call_becomes_is_refused_where_others_leave_no_memory(stages, tmp_path):
    """429 with Retry-After, whether its stage declared it before or it was found after it; a call that
    fits is answered.
    """

    async def work(served: Served) -> None:
        refused = await call(served, 5 * MB)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert "limits.max_ongoing_bytes" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) >= 1
        assert (await call(served, 3 * MB)).status_code == 200
        assert (
            await call(served, 3 * MB)
        ).status_code == 200  # what the one before took is there again

    run(serving(tmp_path, spec(*stages)), next_to(work, 6 * MB))


def test_what_was_let_go_of_is_not_counted_any_more(tmp_path):
    """Only its sum is left while the call is at work."""

    async def work(served: Served) -> None:
        assert (await call(served, 9 * MB)).status_code == 200

    run(serving(tmp_path, spec("large", "pair", "length")), next_to(work, 9 * MB))


def test_a_stage_that_reserves_runs_outside_a_call():
    """In a test of its author's, say; nothing is counted there."""
    assert reserving(10**12) == 10**12


def picky(size: Rows[int]) -> Rows[int]:
    """Fails as a whole if one of its rows is at fault, which costs it what it has reserved."""
    reserve(sum(size))
    if any(one < 0 for one in size):
        raise RequestError("a size is not negative.", where="size")
    return size


def test_a_batch_that_is_run_in_halves_reserves_for_each_run(tmp_path):
    """What the runs before have reserved is given back: all but the row at fault are answered,
    next to another call's bytes.
    """

    async def work(served: Served) -> None:
        rows = [{"size": MB if n else -1} for n in range(9)]
        post = served.client.post
        answers, other = await asyncio.gather(
            post("/v2/models/f", json=rows), post("/v2/models/f", json={"size": 1})
        )
        assert other.status_code == 200
        assert [row.get("picky") for row in answers.json()] == [None, *[MB] * 8]

    run(serving(tmp_path, spec("picky")), work)


def test_a_function_that_is_called_counts_with_its_caller(tmp_path):
    """In one process; what it held is given back with its answer."""
    graph = [{"stage": "reserving", "function": "called"}]
    outer = FunctionSpec.from_args("f", "/v2/models/f", {"graph": graph, "limits": LIMITS})
    called = FunctionSpec.from_args("called", "/v2/models/called", spec("reserving").to_args())
    linked, faults = link_callees(
        [outer, called],
        Settings.read({"WAKEFUL_ROOT": str(tmp_path)}),
    )
    assert not faults

    async def work(served: Served) -> None:
        assert (await call(served, 5 * MB)).status_code == 429
        assert (await call(served, 3 * MB)).status_code == 200

    run(serving(tmp_path, *linked), next_to(work, 6 * MB))
