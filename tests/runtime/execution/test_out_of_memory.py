"""A process without memory for a large batch answers all the same, and keeps to what
fits. The model and the limit are real.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import WakefulError
from runtime.execution.function import Function
from runtime.onnx.providers import plan_session
from runtime.onnx.session import Session
from runtime.settings import Settings
from tests import onnx_models
from tests.serving import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits little elsewhere"),
]

MEGABYTES_A_NUMBER = 16
ROOM = 200 * 2**20
"""Less than 32 numbers take, more than 8 do."""


def child(root: str, calls: list[list[Any]]) -> None:
    """In a process of its own: the calls one after another with little memory; prints what each was
    answered and which runs it took.
    """
    print(json.dumps(asyncio.run(_calls(Path(root), calls))))


async def _calls(root: Path, calls: list[list[Any]]) -> list[dict[str, Any]]:
    runs: list[tuple[int, bool]] = []
    run = Session.run

    def counted(self: Session, feeds: Any) -> Any:
        runs.append((len(feeds["x"]), False))
        outputs = run(self, feeds)
        runs[-1] = (len(feeds["x"]), True)
        return outputs

    Session.run = counted  # type: ignore[method-assign]
    spec = FunctionSpec.from_args("f", "/f", {"onnx": "m.onnx"})
    function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}), warm_up=False)
    await function.call_rows([{"x": calls[0][0]}])
    _leave(ROOM)
    results = []
    for xs in calls:
        runs.clear()
        outcomes, _ = await function.call_rows([{"x": x} for x in xs])
        answers = [
            one.code if isinstance(one, WakefulError) else one["y"].tolist() for one in outcomes
        ]
        results.append({"answers": answers, "runs": list(runs), "trouble": function.trouble})
    # to close, threads are started
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await function.close(5)
    return results


def fits(root: str, sizes: list[int]) -> None:
    """In a process of its own: whether runs of so many numbers, one after another, find memory in
    165 MB.
    """
    session = Session(Path(root) / "m.onnx", plan_session(0, None))
    session.run({"x": np.ones(1, np.float32)})
    _leave(165 * 2**20)  # 32 numbers take 132 by themselves, and 198 next to what 16 left
    results = []
    for size in sizes:
        try:
            session.run({"x": np.ones(size, np.float32)})
            results.append(True)
        except MemoryError:
            results.append(False)
    print(json.dumps(results))


def _leave(spare_bytes: int) -> None:
    """So many bytes may be allocated besides what there is."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + spare_bytes, resource.RLIM_INFINITY)
    )


def told_by(work: Callable[..., None], root: Path, calls: list[Any]) -> list[Any]:
    """What it prints, in a process of its own. One malloc arena: each thread's own reserves 64 MB of
    what is limited here, where the place that it is given happens to be aligned.
    """
    code = f"from {__name__} import {work.__name__}; {work.__name__}({str(root)!r}, {calls!r})"
    environ = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    results: list[Any] = json.loads(done.stdout)
    return results


def test_a_batch_too_large_for_memory_is_halved_and_the_limit_kept(tmp_path):
    """All 32 rows are answered by smaller runs; the next 32 are not tried together again."""
    onnx_models.hungry(tmp_path / "m.onnx", MEGABYTES_A_NUMBER)
    xs = [float(n) for n in range(32)]
    first, second = told_by(child, tmp_path, [xs, xs])
    assert first["answers"] == second["answers"] == xs
    assert first["runs"][0] == [32, False]
    assert all(ok for _, ok in second["runs"]), "a run failed again"
    assert max(rows for rows, _ in second["runs"]) >= 4
    assert not second["trouble"]


def test_a_row_too_large_for_memory_fails_alone(tmp_path):
    """Its error is that it is too large; short rows of the same call are answered, and those of the
    next go together as before.
    """
    onnx_models.hungry(tmp_path / "m.onnx", MEGABYTES_A_NUMBER, ("rows", "length"))
    short, long = [1.0], [2.0] * 40
    first, second = told_by(child, tmp_path, [[short, short, long, short], [short] * 4])
    assert first["answers"] == [short, short, "row_too_large", short]
    assert second["answers"] == [short] * 4
    assert second["runs"] == [[4, True]]


def test_what_earlier_runs_kept_is_given_back_when_memory_is_short(tmp_path):
    """32 find no memory next to what 16 left in the arena; after the next run of 16 they
    do.
    """
    onnx_models.hungry(tmp_path / "m.onnx", 4)
    assert told_by(fits, tmp_path, [16, 32, 16, 32]) == [True, False, True, True]
