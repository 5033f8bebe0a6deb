"""What processes have counted, added up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from deployments.observability.statistics import ClusterStatistics, tell_statistics
from runtime.errors import Unavailable
from runtime.system.telemetry.counters import FunctionCounters
from runtime.system.telemetry.statistics import (
    ENDED_S,
    MOST_SILENT,
    FunctionStatistics,
    StatisticsTable,
)

TIMINGS = {"queue": 0.1, "batch": 0.2, "preprocess": 0.3, "model": 0.4, "postprocess": 0.5}


def counted(calls: int = 1, failures: int = 0, name: str = "f") -> FunctionCounters:
    counters = FunctionCounters(name)
    counters.declare_stages(["m"])
    for _ in range(calls):
        counters.calls.record(200, "", 2.0, TIMINGS)
        counters.record_batch(counters.stages["m"], [Row()], 0.25)
    for _ in range(failures):
        counters.calls.record(400, "bad_request", 0.5, None)
    counters.calls.answered_at = time.monotonic() if calls + failures else 0.0
    return counters


class Row:
    padded_size = 0


def test_statistics_are_what_was_counted() -> None:
    """In Triton's words, nanoseconds; failures apart."""
    found = FunctionStatistics.of(counted(2, 1)).to_triton("f")
    parts = found["inference_stats"]
    assert {name: (parts[name]["count"], parts[name]["ns"] / 1e9) for name in parts} == {
        "success": (2, 4.0),
        "fail": (1, 0.5),
        "queue": (2, 0.2),
        "compute_input": (2, 1.0),
        "compute_infer": (2, 0.8),
        "compute_output": (2, 1.0),
        "cache_hit": (0, 0.0),
        "cache_miss": (0, 0.0),
    }
    assert found["execution_count"] == 2
    (batch,) = found["batch_stats"]
    assert (batch["batch_size"], batch["compute_infer"]) == (1, {"count": 2, "ns": 500_000_000})
    assert abs(found["last_inference"] / 1000 - time.time()) < 60


def test_they_travel_and_add_up() -> None:
    """Through plain data; the latest call is the last."""
    one, two = FunctionStatistics.of(counted(1)), FunctionStatistics.of(counted(2, 3))
    assert FunctionStatistics.from_list(one.to_list()) == one
    both = one + two
    assert (both.succeeded, both.failed) == (3, 3)
    assert both.batches == {1: (3, 0.75)}
    assert both.last_at == max(one.last_at, two.last_at)
    assert one + FunctionStatistics() == one


def test_what_ended_processes_counted_stays() -> None:
    """And what a process tells again takes the place of what it told."""
    table = StatisticsTable()
    table.keep("a", tell_statistics([counted(1)]), 0.0)
    table.keep("a", tell_statistics([counted(2)]), 1.0)
    table.keep("b", tell_statistics([counted(4)]), 1.0)
    assert table.of("f").succeeded == 6
    table.keep("b", {}, 2.0 + ENDED_S)
    assert table.of("f").succeeded == 6
    table.keep("c", tell_statistics([counted(1)]), 3.0 + ENDED_S)
    assert table.of("f").succeeded == 7
    assert table.all()["f"] == table.of("f")
    table.forget(["g"])
    assert table.all() == {}


def test_a_process_that_was_silent_has_not_counted_twice() -> None:
    """Whatever others have ended meanwhile, up to a bound; what these have counted stays."""
    table = StatisticsTable()
    table.keep("a", tell_statistics([counted(2)]), 0.0)
    for n in range(MOST_SILENT + 3):
        table.keep(f"b{n}", tell_statistics([counted(1)]), 0.0)
    table.keep("c", {}, 1.0 + ENDED_S)
    assert table.of("f").succeeded == MOST_SILENT + 5
    table.keep(f"b{MOST_SILENT + 2}", tell_statistics([counted(4)]), 2.0 + ENDED_S)
    assert table.of("f").succeeded == MOST_SILENT + 8


def test_only_what_was_called_lately_is_told() -> None:
    """A host has hundreds of functions, and reports every second."""
    old, new = counted(1, name="old"), counted(1, name="new")
    old.calls.answered_at = 5.0
    assert list(tell_statistics([old, new], 6.0)) == ["new"]
    assert list(tell_statistics([old, new])) == ["old", "new"]


class Controller:
    """A heartbeat's far side."""

    def __init__(self, answer: Any) -> None:
        self.has_controller = answer is not None
        self.answer = answer
        self.asked: tuple[Any, ...] = ()

    async def ask(self, *asked: Any) -> Any:
        self.asked = asked
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def test_the_catalogue_is_asked() -> None:
    """With what this process has counted until now; its answer is the answer."""
    counters = [counted(1)]
    total = FunctionStatistics.of(counted(9))
    controller = Controller({"f": total.to_list()})
    statistics = ClusterStatistics("me", counters, lambda: controller)
    assert asyncio.run(statistics.read("f")) == {"f": total}
    method, process, told, name = controller.asked
    assert (method, process, name) == ("read_statistics", "me", "f")
    assert FunctionStatistics.from_list(told["f"]).succeeded == 1


def test_the_catalogue_is_asked_one_question_at_a_time() -> None:
    """However many clients ask: it decides on placement meanwhile."""
    asking, most = 0, 0

    class Slow(Controller):
        async def ask(self, *asked: Any) -> Any:
            nonlocal asking, most
            asking += 1
            most = max(most, asking)
            await asyncio.sleep(0)
            asking -= 1
            return self.answer

    async def ask() -> None:
        statistics = ClusterStatistics("me", [counted(3)], lambda: Slow({}))
        found = await asyncio.gather(*(statistics.read("f") for _ in range(20)))
        assert found == [{}] * 20

    asyncio.run(ask())
    assert most == 1


def test_without_a_catalogue_a_process_answers_for_itself() -> None:
    """A function that was never called has counted nothing."""
    for heartbeat in (None, Controller(None)):
        statistics = ClusterStatistics("me", [counted(3)], lambda heartbeat=heartbeat: heartbeat)
        assert asyncio.run(statistics.read("f"))["f"].succeeded == 3
        assert asyncio.run(statistics.read("g")) == {"g": FunctionStatistics()}
        assert list(asyncio.run(statistics.read(""))) == ["f"]


def test_a_catalogue_that_does_not_answer_is_said() -> None:
    """A part of the counts would look like all of them."""
    statistics = ClusterStatistics("me", [counted(3)], lambda: Controller(TimeoutError()))
    with pytest.raises(Unavailable, match="ask again"):
        asyncio.run(statistics.read("f"))
