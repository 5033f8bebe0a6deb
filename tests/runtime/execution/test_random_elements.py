"""Random functions that stream their elements, with random callers: each gets what a list would
give, in order or by index, and nothing stays behind.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeadlineExceeded, RequestError, WakefulError
from runtime.execution.function import Function
from runtime.execution.streaming import StreamSource
from runtime.graph.resolve import link_callees
from runtime.settings import Settings
from wakeful import RequestError as Refused
from wakeful import Rows

HERE = __name__
PATIENCE_S = 30.0


def given(xs: list[int]) -> list[int]:
    """The list."""
    return xs


def _step(x: int) -> int:
    if x % 97 == 13:
        raise Refused(f"{x} is refused.", where="x")
    return 3 * x + 1


def plain(x: int) -> int:
    """A row at a time."""
    return _step(x)


async def soon(x: int) -> int:
    """On the event loop, now or later."""
    if x % 3:
        await asyncio.sleep(0.0005 * (x % 3))
    return _step(x)


def together(x: Rows[int]) -> Rows[int]:
    """All that wait; a refused one is found in halves."""
    return [_step(one) for one in x]


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"python": f"{HERE}:plain"},
    "threads": {"python": f"{HERE}:plain", "threads": 3},
    "soon": {"python": f"{HERE}:soon"},
    "together": {"python": f"{HERE}:together"},
    "threads together": {"python": f"{HERE}:together", "threads": 2},
    "called": {"function": "callee"},
}


def graph(kinds: list[str], *, ordered: bool, streams: bool) -> list[dict[str, Any]]:
    """A list, and stages one behind the other over its elements."""
    stages: list[dict[str, Any]] = [{"stage": "given", "python": f"{HERE}:given"}]
    before = "given"
    for number, kind in enumerate(kinds):
        name = f"s{number}"
        stages.append(
            {
                "stage": name,
                "each": "given",
                "inputs": {"x": before},
                **KINDS[kind],
                **({"outputs": {"plain": name}} if kind == "called" else {}),
            }
        )
        before = name
    if streams:
        stages[-1] |= {"stream": True, "ordered": ordered}
    return stages


def expected(xs: list[int], count: int) -> tuple[list[int], bool]:
    """What comes of the elements before the first that is refused, and whether one is."""
    found = []
    for x in xs:
        for _ in range(count):
            if x % 97 == 13:
                return found, True
            x = 3 * x + 1
        found.append(x)
    return found, False


async def call(function: Function, xs: list[int], name: str, rng: random.Random) -> str:
    """One caller, which may be slow, or leave; what is wrong, or nothing."""
    count = len(function.spec.graph) - 1
    ordered = function.spec.graph[-1].ordered
    leaves = rng.random() < 0.2
    pause_s = rng.choice([0.0, 0.0, 0.001, 0.01])
    row = function.validator.validate({"xs": xs})
    items: list[dict[str, Any]] = []
    error: WakefulError | None = None
    async with StreamSource(
        function, row, CallOptions(deadline=time.monotonic() + PATIENCE_S)
    ) as source:
        try:
            while more := await source.take():
                items += more
                await asyncio.sleep(pause_s)
                if leaves and rng.random() < 0.5:
                    return ""
        except WakefulError as found:
            error = found
    want, is_refused = expected(xs, count)
    if is_refused is not isinstance(error, RequestError) or isinstance(error, DeadlineExceeded):
        return f"{xs}: {error!r} after {items}"
    if ordered:
        got = [item[name] for item in items]
        return "" if got == want else f"{xs}: {got}"
    each = [expected([x], count)[0] for x in xs]
    if len({item["index"] for item in items}) < len(items):
        return f"{xs}: twice: {items}"
    wrong = [item for item in items if each[item["index"]] != [item[name]]]
    if wrong or (not is_refused and len(items) < len(xs)):
        return f"{xs}: {wrong or len(items)}"
    return ""


@pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(n, marks=pytest.mark.full) for n in range(6, 60))]
)
def test_callers_get_what_a_list_would_give(tmp_path: Path, seed: int) -> None:
    """Whatever the stages, the batches, the workers, and the others that come at the same time."""
    rng = random.Random(seed)
    kinds = rng.choices(list(KINDS), k=rng.randint(1, 3))
    ordered = rng.random() < 0.5
    args = {
        "graph": graph(kinds, ordered=ordered, streams=True),
        "batching": {"max_batch_size": rng.choice([1, 2, 5, 32])},
        "resources": {"num_cpus": rng.choice([1, 3])},
    }
    callee = {"graph": [{"stage": "plain", "python": f"{HERE}:plain"}]}
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    (_, spec), issues = link_callees(
        [
            FunctionSpec.from_args("callee", "/callee", callee),
            FunctionSpec.from_args("f", "/f", args),
        ],
        settings,
    )
    assert not issues

    async def main() -> list[str]:
        function = await Function.load(spec, settings)
        lists = [
            [
                rng.randrange(96 if rng.random() < 0.7 else 13)
                for _ in range(rng.choice([0, 1, 3, 40, 150]))
            ]
            for _ in range(12)
        ]
        name = f"s{len(kinds) - 1}"
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await asyncio.gather(*(call(function, xs, name, rng) for xs in lists))
                while function.in_flight.calls or function.waiting_rows:
                    await asyncio.sleep(0.001)
            assert not function._batcher._router._streaming
            return [one for one in found if one]
        finally:
            await function.close(5.0)

    assert asyncio.run(main()) == []
