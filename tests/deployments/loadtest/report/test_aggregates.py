"""What is drawn of a run is bounded, and says what the records say."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.loadtest.report.aggregates import (
    MOST_CODES,
    MOST_DOTS,
    MOST_FUNCTIONS,
    MOST_WINDOWS,
    distribute,
    view_functions,
    view_generator,
    window_starts,
)
from deployments.loadtest.results.records import CallRecord, Run, ServerSample
from deployments.loadtest.results.statistics import summarise
from tests.deployments.loadtest.made_runs import make_run


def run_of(calls=(), server=(), seconds=10.0, **more) -> Run:
    """A run of these calls of `f`."""
    return Run(
        "", "", {"f": 1.0}, seconds, more.pop("warm_up_s", 0.0), 1, 0, {}, {}, calls, server, **more
    )


def call(at: float, ms: float = 10.0, status: int = 200, code: str = "", **more) -> CallRecord:
    """A call of `f` that took so long."""
    return CallRecord("f", at, at, at + ms / 1e3, status, code, **more)


@pytest.mark.parametrize(
    ("seconds", "calls", "length_s", "count"),
    [
        (0.3, 10**6, 1, 1),
        (10, 0, 1, 10),
        (150, 10**6, 1, 150),
        (151, 10**6, 2, 76),
        (3600, 10**6, 30, 120),
        (10**7, 10**6, 10**7 / 150, 150),
        (120, 60 * 120, 1, 120),
        (120, 20 * 120, 2, 60),
        (120, 2 * 120, 5, 24),
    ],
)
def test_a_run_has_few_windows(seconds, calls, length_s, count):
    """However long it is; and longer ones where calls are rare."""
    starts, length = window_starts(run_of(seconds=seconds), calls)
    assert (length, len(starts)) == (pytest.approx(length_s), count)
    assert count <= MOST_WINDOWS


def test_a_run_that_was_ended_is_as_long_as_its_calls():
    """And not as it was meant to be."""
    run = run_of([call(0), call(41.5)], seconds=600, is_partial=True)
    assert len(window_starts(run, 10**6)[0]) == 42


def test_a_run_with_sequences_is_as_long_as_they_are():
    """They go on after the load."""
    run = run_of([call(0), call(42.5)], seconds=30)
    assert len(window_starts(run, 10**6)[0]) == 42


def test_windows_say_what_the_calls_say():
    """Right answers by percentile, failures apart, an empty window without a number; what is after
    the end counts in the last window.
    """
    calls = [call(0.1, ms) for ms in range(1, 101)] + [call(0.2, 9999, 500, "x"), call(10.4, 7)]
    (view,) = view_functions(run_of(calls))
    windows = view.windows
    assert windows.right.tolist() == [100] + [0] * 8 + [1]
    assert windows.failed.tolist() == [1] + [0] * 9
    assert [windows.percentiles[rank][0] for rank in (50, 95, 99)] == pytest.approx([50, 95, 99])
    assert np.isnan(windows.percentiles[50][1:9]).all()
    assert windows.percentiles[99][9] == pytest.approx(7)


def sample(at: float, **more: int) -> ServerSample:
    """A look at `f`."""
    values = {"replicas": 1, "waiting_rows": 0, "wakes": 0, "batches": 0, "rows": 0, **more}
    return ServerSample(
        at, "f", values["replicas"], values["waiting_rows"], "ready", values["wakes"],
        values["batches"], values["rows"], 0.0, 0,
    )  # fmt: skip


def test_counters_of_the_server_are_told_by_window():
    """The most replicas and waiting rows, or the last that were seen; wakes and batches that were
    added.
    """
    server = [
        sample(0, wakes=3, batches=10, rows=40),
        sample(1, wakes=4, batches=12, rows=48, replicas=2, waiting_rows=7),
        sample(2, wakes=5, batches=13, rows=51),
    ]
    (view,) = view_functions(run_of([call(0)], server))
    windows = view.windows
    assert windows.wakes[:3].tolist() == [0, 1, 1]
    assert windows.replicas[:3].tolist() == [1, 2, 1]
    assert windows.waiting_rows[:3].tolist() == [0, 7, 0]
    assert windows.batch_rows[1:3].tolist() == [4, 3]
    assert np.isnan(windows.batch_rows[0])
    assert windows.replicas[3:].tolist() == [1] * 7


def test_where_the_time_went():
    """Means over all right answers, and what the server does not account for; the warm-up apart."""
    calls = [
        call(0, 900, stages={"cold": 0.9}),
        call(5, 10, stages={"queue": 0.002, "model": 0.006}),
        call(6, 20, stages={"model": 0.010, "lunch": 0.004}),
        call(7, 500, 500, "x", stages={"model": 0.5}),
    ]
    (view,) = view_functions(run_of(calls, warm_up_s=1.0))
    assert [stage.name for stage in view.stages] == ["queue", "model", "lunch", "outside"]
    assert [stage.mean_ms for stage in view.stages] == pytest.approx([1, 8, 2, 4])
    assert sum(stage.share for stage in view.stages) == pytest.approx(1)


def test_errors_are_grouped_and_bounded():
    """The most frequent ones, with when they came."""
    calls = [call(at, 1, 429, "overloaded") for at in (2, 4, 9)]
    calls += [call(5, 1, 500, f"code{number}") for number in range(50)]
    (view,) = view_functions(run_of(calls))
    first = view.errors[0]
    assert (first.code, first.count, first.first_s, first.last_s) == ("overloaded", 3, 2, 9)
    assert (len(view.errors), view.other_errors) == (MOST_CODES, 51 - MOST_CODES)


def test_rare_calls_are_drawn_before_usual_ones():
    """Some of many, all of the few that failed or found the function asleep."""
    calls = [call(at / 1e4, is_warm=True) for at in range(3 * MOST_DOTS)]
    calls += [call(5, 1, 500, "x"), call(6, is_warm=False)]
    (view,) = view_functions(run_of(calls))
    assert len(view.dots.at) == MOST_DOTS + 2
    assert (view.dots.has_failed.sum(), view.dots.was_cold.sum()) == (1, 1)


def test_the_busiest_functions_are_drawn():
    """In the order of the run's rates."""
    calls = [
        CallRecord(f"f{number:02d}", 0, 0, 1, 200) for number in range(30) for _ in range(number)
    ]
    run = Run("", "", {f"f{n:02d}": 1.0 for n in range(30)}, 1, 0, 1, 0, {}, {}, calls)
    names = [view.name for view in view_functions(run)]
    assert names == [f"f{number:02d}" for number in range(30 - MOST_FUNCTIONS, 30)]


@pytest.mark.parametrize(
    "latencies", [[0.0], [-1.0, 5.0], [5.0] * 9, [1e-9, 1e9], list(range(1, 2000))]
)
def test_a_distribution_of_any_latencies(latencies):
    """Each call is in one bin; percentiles rise, and go as far as the number of calls tells."""
    made = distribute(np.array(latencies, float))
    assert made is not None
    assert made.shares.sum() == pytest.approx(1)
    assert (np.diff(made.latencies) >= 0).all()
    assert (np.diff(made.edges) > 0).all()
    assert distribute(np.array([])) is None


def test_a_page_has_one_p95():
    """The percentiles of the distribution are those of the verdict's statistics."""
    run = make_run(seconds=20)
    for view in view_functions(run):
        assert view.distribution is not None
        measured = summarise(run).functions[view.name].percentiles
        for part, estimate in measured.items():
            assert view.distribution.percentiles[100 * part] == pytest.approx(1e3 * estimate.value)


def test_a_function_without_calls_is_a_view_too():
    """Nothing fails where there is nothing."""
    (view,) = view_functions(run_of())
    assert (view.calls, view.distribution, view.stages, view.errors) == (0, None, [], [])
    assert np.isnan(view_generator(run_of()).lag_ms).all()


def test_the_generator_is_told_by_window():
    """Its worst second of each."""
    view = view_generator(make_run(seconds=20))
    assert len(view.lag_ms) == 20
    assert (view.lag_ms > 0).all()
