"""What processes have counted, added up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from deployments.observability import statistics
from deployments.observability.statistics import ClusterStatistics
from runtime.errors import Unavailable
from runtime.system.telemetry.counters import FunctionCounters, ProcessCounters
from runtime.system.telemetry.statistics import (
    FunctionStatistics,
    StatisticsReport,
    StatisticsTable,
)

TIMINGS = {"queue": 0.1, "batch": 0.2, "preprocess": 0.3, "model": 0.4, "postprocess": 0.5}


def counting(calls: int) -> ProcessCounters:
    process = ProcessCounters()
    counted(calls, counters=process.of("f"))
    return process


def counted(
    calls: int = 1, failures: int = 0, counters: FunctionCounters | None = None
) -> FunctionCounters:
    counters = FunctionCounters("f") if counters is None else counters
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


def test_batches_are_counted_once_whatever_stages_other_versions_have() -> None:
    """Those of the last stage that makes batches, of each version; where none makes any, calls."""
    process, table = ProcessCounters(), StatisticsTable(0.0)
    counters = process.of("f")

    def reported() -> tuple[int, dict[int, int]]:
        table.keep("host", StatisticsReport.of(process), time.monotonic())
        found = table.of("f")
        sizes = {rows: count for rows, (count, _) in found.batches.items()}
        return found.to_triton("f")["execution_count"], sizes

    def call(times: int) -> None:
        for _ in range(times):
            counters.calls.record(200, "", 2.0, TIMINGS)
            for stage in counters.stages.values():
                counters.record_batch(stage, [Row()], 0.25)

    counters.rows = 1
    call(2)
    assert reported() == (2, {})
    counters.declare_stages(["prepare", "model"])
    call(10)
    assert reported() == (12, {1: 10})
    counters.declare_stages(["prepare"])
    assert reported() == (12, {1: 10})
    call(5)
    assert reported() == (17, {1: 15})
    counters.declare_stages([])
    counters.declare_stages([])
    assert reported() == (17, {1: 15})
    call(3)
    assert reported() == (20, {1: 15})
    counters.declare_stages(["prepare", "model"])
    assert reported() == (20, {1: 15})
    call(1)
    assert reported() == (21, {1: 16})


def test_they_travel_and_add_up() -> None:
    """Through plain data; the latest call is the last."""
    one, two = FunctionStatistics.of(counted(1)), FunctionStatistics.of(counted(2, 3))
    assert FunctionStatistics.from_list(one.to_list()) == one
    both = one + two
    assert (both.succeeded, both.failed) == (3, 3)
    assert both.batches == {1: (3, 0.75)}
    assert both.last_at == max(one.last_at, two.last_at)
    assert one + FunctionStatistics() == one


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
    """With what this process has counted of it until now, and of nothing else: a host has hundreds
    of functions. Its answer is the answer.
    """
    counters = counting(1)
    counted(2, counters=counters.of("g"))
    total = FunctionStatistics.of(counted(9))
    controller = Controller({"f": total.to_list()})
    statistics = ClusterStatistics("me", counters, lambda: controller)
    assert asyncio.run(statistics.read("f")) == {"f": total}
    method, process, told, name = controller.asked
    assert (method, process, name) == ("read_statistics", "me", "f")
    assert FunctionStatistics.from_list(told.functions["f"]).succeeded == 1
    assert (list(told.functions), told.is_whole) == (["f"], False)
    for name, names, is_whole in (("", ["f", "g"], True), ("h", [], False)):
        asyncio.run(statistics.read(name))
        told = controller.asked[2]
        assert (list(told.functions), told.is_whole) == (names, is_whole)


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
        statistics = ClusterStatistics("me", counting(3), lambda: Slow({}))
        found = await asyncio.gather(*(statistics.read("f") for _ in range(20)))
        assert found == [{}] * 20

    asyncio.run(ask())
    assert most == 1


def test_without_a_catalogue_a_process_answers_for_itself() -> None:
    """A function that was never called has counted nothing."""
    for heartbeat in (None, Controller(None)):
        statistics = ClusterStatistics("me", counting(3), lambda heartbeat=heartbeat: heartbeat)
        assert asyncio.run(statistics.read("f"))["f"].succeeded == 3
        assert asyncio.run(statistics.read("g")) == {"g": FunctionStatistics()}
        assert list(asyncio.run(statistics.read(""))) == ["f"]


def test_a_catalogue_that_does_not_answer_is_said() -> None:
    """A part of the counts would look like all of them."""
    statistics = ClusterStatistics("me", counting(3), lambda: Controller(TimeoutError()))
    with pytest.raises(Unavailable, match="ask again"):
        asyncio.run(statistics.read("f"))


def test_a_process_that_ends_reports_its_counts_to_the_table_alone() -> None:
    """All of them, once."""
    controller = Controller(())
    asyncio.run(ClusterStatistics("me", counting(3), lambda: controller).report_last())
    method, process, told = controller.asked
    assert (method, process, told.is_whole) == ("receive_counts", "me", True)
    assert FunctionStatistics.from_list(told.functions["f"]).succeeded == 3


@pytest.mark.parametrize("answer", [None, RuntimeError("it ends, too"), TimeoutError()])
def test_a_process_ends_whatever_becomes_of_its_last_counts(answer: BaseException | None) -> None:
    """There is no catalogue, or it has ended."""
    asyncio.run(ClusterStatistics("me", counting(3), lambda: Controller(answer)).report_last())
    asyncio.run(ClusterStatistics("me", counting(3), lambda: None).report_last())


def test_the_last_counts_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue that does not answer holds no machine."""

    class Silent(Controller):
        async def ask(self, *asked: Any) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(statistics, "LAST_S", 0.01)
    last = ClusterStatistics("me", counting(3), lambda: Silent(()))
    asyncio.run(asyncio.wait_for(last.report_last(), 5.0))
