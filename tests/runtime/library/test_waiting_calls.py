"""Functions that wait for each other's answers never wait for each other's threads: whatever calls
what, on one worker and with room for one function, each call is answered or refused in its time.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.batching.calls import CallOptions
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import WakefulError
from runtime.graph.resolve import link_callees
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings

MB = 1_000_000
CALLERS = 8
TIME_S = 20.0

HEAD = """
import asyncio, time
from wakeful import Call
"""

LEAF = """
def {name}(n: int) -> int:
    time.sleep(0.001)
    return n + 1
"""

PLAIN = """
def {name}(n: int, {parameters}) -> int:
    return 1 + {calls}
"""

AWAITED = """
async def {name}(n: int, {parameters}) -> int:
    return 1 + sum((await asyncio.gather({coroutines})))
"""

BUILT = """
class {name}:
    def __init__(self, {parameters}) -> None:
        n = 1
        self.base = {calls}
        self.all = ({names},)

    def __call__(self, n: int) -> int:
        return 1 + self.base + sum(value_of(one(n=n)) for one in self.all)
"""

ASYNC_BUILT = BUILT.replace("    def __call__", "    async def __call__").replace(
    "sum(value_of(one(n=n)) for one in self.all)",
    "sum([value_of(await one(n=n)) for one in self.all])",
)

EDGES = """
def {name}({values}) -> int:
    return 1 + {sum}
"""

VALUE_OF = """
def value_of(answer):
    (value,) = answer.values()
    return value
"""

KINDS = {
    "plain": PLAIN,
    "awaited": AWAITED,
    "built": BUILT,
    "async built": ASYNC_BUILT,
    "edges": EDGES,
}


@dataclass(frozen=True)
class Made:
    """Functions in the order of their names; each calls some of those after it."""

    kinds: tuple[str, ...]
    calls: tuple[tuple[int, ...], ...]

    @classmethod
    def by_chance(cls, seed: int) -> Made:
        """A chain, a fan, or anything between."""
        chance = random.Random(seed)
        count = chance.randint(2, 6)
        calls = [
            tuple(
                sorted(
                    chance.sample(range(at + 1, count), chance.randint(1, min(3, count - at - 1)))
                )
            )
            for at in range(count - 1)
        ]
        kinds = [chance.choice(list(KINDS)) for _ in calls]
        return cls((*kinds, "leaf"), (*calls, ()))

    @classmethod
    def chain(cls, kind: str, length: int) -> Made:
        """Each calls the next one."""
        return cls((*[kind] * (length - 1), "leaf"), (*((at + 1,) for at in range(length - 1)), ()))

    def value(self, at: int, n: int) -> int:
        """What a function answers."""
        if self.kinds[at] == "leaf":
            return n + 1
        base = sum(self.value(to, 1) for to in self.calls[at]) if "built" in self.kinds[at] else 0
        return 1 + base + sum(self.value(to, n) for to in self.calls[at])

    def source(self) -> str:
        """The stages."""
        parts = [HEAD, VALUE_OF]
        for at, (kind, called) in enumerate(zip(self.kinds, self.calls, strict=True)):
            names = [f"f{to}" for to in called]
            parts.append(
                KINDS.get(kind, LEAF).format(
                    name=f"f{at}",
                    parameters=", ".join(f'{name}: Call["{name}"]' for name in names),
                    calls=" + ".join(f"value_of({name}(n=n))" for name in names),
                    coroutines=", ".join(f"ask({name}, n)" for name in names),
                    names=", ".join(names),
                    values=", ".join(f"{name}: int" for name in names),
                    sum=" + ".join(names),
                )
            )
        parts.append("async def ask(function, n):\n    return value_of(await function(n=n))\n")
        return "\n".join(parts)

    def specs(self, module: str) -> list[FunctionSpec]:
        """The declarations."""
        found = []
        for at, (kind, called) in enumerate(zip(self.kinds, self.calls, strict=True)):
            edges = [{"stage": f"f{to}", "function": f"f{to}"} for to in called]
            graph = [
                *(edges if kind == "edges" else ()),
                {"stage": f"f{at}", "python": f"{module}:f{at}"},
            ]
            found.append(
                FunctionSpec.from_args(
                    f"f{at}",
                    f"/v2/models/f{at}",
                    {"graph": graph, "limits": {"request_timeout_s": TIME_S}},
                )
            )
        return found


def ask_all(root: Path, made: Made, budget: int | None, workers: int = 1, spare: int = 0) -> Any:
    """What several callers of each function are answered, by function."""
    name = f"made_{abs(hash(made))}"
    module = types.ModuleType(name)
    exec(compile(made.source(), name, "exec"), module.__dict__)
    sys.modules[name] = module
    try:
        settings = Settings.read({"WAKEFUL_ROOT": str(root)})
        linked, faults = link_callees(made.specs(name), settings)
        assert not faults
        return asyncio.run(_ask_all(linked, settings, budget, workers, spare))
    finally:
        del sys.modules[name]


async def _ask_all(
    specs: tuple[FunctionSpec, ...],
    settings: Settings,
    budget: int | None,
    workers: int,
    spare: int,
) -> dict[str, list[Any]]:
    threads = Workers(workers, spare=spare)
    library = FunctionLibrary(
        [DeclaredFunction(spec, memory_bytes=10 * MB if budget else 0) for spec in specs],
        settings,
        workers=threads,
        budget_bytes=budget,
    )

    async def ask(name: str, n: int) -> Any:
        try:
            entry = await library.get_loaded(name, until=time.monotonic() + TIME_S)
        except WakefulError as error:
            return error
        began = time.monotonic()
        try:
            assert entry.function is not None
            answer, _ = await entry.function.call_row(
                {"n": n}, CallOptions(deadline=time.monotonic() + TIME_S)
            )
            return answer[name]
        except WakefulError as error:
            return error
        finally:
            entry.leases.release(began)

    try:
        calls = [(spec.name, n) for n in range(CALLERS) for spec in specs]
        async with asyncio.timeout(2 * TIME_S):
            found = await asyncio.gather(*(ask(*call) for call in calls))
        answers: dict[str, list[Any]] = {}
        for (name, _), answer in zip(calls, found, strict=True):
            answers.setdefault(name, []).append(answer)
        return answers
    finally:
        await library.close()
        await asyncio.to_thread(threads.close, 5.0)


def expect_answers(root: Path, made: Made, **threads: int) -> None:
    """All are answered, and rightly."""
    found = ask_all(root, made, None, **threads)
    assert found == {
        f"f{at}": [made.value(at, n) for n in range(CALLERS)] for at in range(len(made.kinds))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_on_one_worker_is_answered(tmp_path: Path, kind: str) -> None:
    """Of five functions, each of which waits for the next one."""
    expect_answers(tmp_path, Made.chain(kind, 5))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_calls_what_is_answered(tmp_path: Path, seed: int) -> None:
    """Chains, fans and diamonds, plain and awaited, built from each other or not."""
    expect_answers(tmp_path, Made.by_chance(seed), spare=seed % 2)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 300))
def test_whatever_many_call_is_answered(tmp_path: Path, seed: int) -> None:
    """The same, many times."""
    expect_answers(tmp_path, Made.by_chance(seed), spare=seed % 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.full] * (kind != "plain")) for kind in KINDS]
)
def test_with_room_for_one_function_a_call_is_refused_in_time(tmp_path: Path, kind: str) -> None:
    """A function cannot be loaded beside the one that waits for it: no room, and not a wait."""
    began = time.monotonic()
    made = Made.chain(kind, 3)
    found = ask_all(tmp_path, made, 15 * MB)
    assert time.monotonic() - began < TIME_S
    for at in range(3):
        for n, answer in enumerate(found[f"f{at}"]):
            if isinstance(answer, WakefulError):
                assert answer.status == 503, answer
                assert answer.code in ("no_room", "load_failed", "unavailable"), answer
            else:
                assert answer == made.value(at, n)
    assert all(isinstance(answer, WakefulError) for answer in found["f0"])
