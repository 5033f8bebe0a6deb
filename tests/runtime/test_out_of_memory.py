"""A process whose memory has no room for a large batch answers all the same, and keeps to what fits. The model and the limit are real."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.errors import WakefulError
from runtime.function import Function
from runtime.onnx.options import plan
from runtime.onnx.session import Session
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from tests import onnx_models
from tests.serving import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits little elsewhere")]

MEGABYTES_A_NUMBER = 16
ROOM = 200 * 2**20
"""Less than 32 numbers take, more than 8 do."""


def child(root: str, calls: list[list[Any]]) -> None:
    """In a process of its own: the calls one after another with little memory; prints what each was answered and which runs it took."""
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
    told = []
    for xs in calls:
        runs.clear()
        outcomes, _ = await function.call_rows([{"x": x} for x in xs])
        answers = [one.code if isinstance(one, WakefulError) else one["y"].tolist() for one in outcomes]
        told.append({"answers": answers, "runs": list(runs), "trouble": function.trouble})
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # to close, threads are started
    await function.close(5)
    return told


def fits(root: str, sizes: list[int]) -> None:
    """In a process of its own: whether runs of so many numbers, one after another, find memory in 150 MB."""
    session = Session(Path(root) / "m.onnx", plan(0, None))
    session.run({"x": np.ones(1, np.float32)})
    _leave(150 * 2**20)
    told = []
    for size in sizes:
        try:
            session.run({"x": np.ones(size, np.float32)})
            told.append(True)
        except MemoryError:
            told.append(False)
    print(json.dumps(told))


def _leave(room: int) -> None:
    """So many bytes may be asked for besides what there is."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, resource.RLIM_INFINITY))


def told_by(work: Callable[..., None], root: Path, calls: list[Any]) -> list[Any]:
    """What it prints, in a process of its own."""
    code = f"from {__name__} import {work.__name__}; {work.__name__}({str(root)!r}, {calls!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    told: list[Any] = json.loads(done.stdout)
    return told


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
    """It hears that it is too large; short rows of the same call are answered, and those of the next go together as before."""
    onnx_models.hungry(tmp_path / "m.onnx", MEGABYTES_A_NUMBER, ("rows", "length"))
    short, long = [1.0], [2.0] * 40
    first, second = told_by(child, tmp_path, [[short, short, long, short], [short] * 4])
    assert first["answers"] == [short, short, "row_too_large", short]
    assert second["answers"] == [short] * 4
    assert second["runs"] == [[4, True]]


def test_what_earlier_runs_kept_is_given_back_when_memory_is_short(tmp_path):
    """32 find no memory beside what 16 left behind in the arena; after the next run of 16 they do."""
    onnx_models.hungry(tmp_path / "m.onnx", 4)
    assert told_by(fits, tmp_path, [16, 32, 16, 32]) == [True, False, True, True]
