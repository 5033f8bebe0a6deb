"""What is counted of a function: by its calls, through its loads, and as the page tells it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.system.telemetry.counters import (
    DISCONNECTED,
    MAX_CODES,
    OTHER_CODE,
    ROWS,
    Distribution,
    FunctionCounters,
    ProcessCounters,
)
from runtime.system.telemetry.function_metrics import ALL, FAMILIES, write_metrics
from tests import task_stages
from tests.sleepers import HANDS, Served, double, obedient, run, serving

TIMINGS = {"queue": 0.02, "batch": 0.0, "preprocess": 1.0, "model": 0.3, "postprocess": 1.0}


def read(text: str) -> dict[tuple[str, ...], float]:
    """Samples by name and the values of their labels, as a client of Prometheus reads the page."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.5, 0), (1, 0), (1.5, 1), (2, 1), (256, 8), (257, 9), (1e9, 9)]
)
def test_a_number_is_in_the_first_bucket_that_holds_it(value: float, bucket: int):
    """An upper bound belongs to its bucket, as Prometheus has it; the last takes the rest."""
    spread = Distribution(ROWS)
    spread.add(value)
    assert [at for at, count in enumerate(spread.counts) if count] == [bucket]
    assert spread.sum == value


def test_calls_count_by_status_and_errors_by_code():
    """A call without a status is one whose client left; one without rows has no parts."""
    process = ProcessCounters()
    counters = process.of("f")
    counters.calls.record(200, "", 0.4, TIMINGS)
    counters.calls.record(429, "overloaded", 0.001, None)
    counters.calls.record(0, "", 0.1, None)
    page = read(write_metrics(process))
    assert {key[2]: n for key, n in page.items() if key[0] == "wakeful_requests_total"} == {
        "200": 1,
        "429": 1,
        str(DISCONNECTED): 1,
    }
    assert page["wakeful_errors_total", "f", "overloaded"] == 1
    assert page["wakeful_request_seconds_count", "f"] == 3
    assert page["wakeful_request_seconds_sum", "f"] == pytest.approx(0.501)
    assert page["wakeful_request_seconds_bucket", "f", "0.25"] == 2
    assert page["wakeful_request_seconds_bucket", "f", "+Inf"] == 3
    assert page["wakeful_model_seconds_sum", "f"] == 0.3
    assert page["wakeful_queue_seconds_count", "f"] == 1


@dataclass
class Padded:
    """A row of a batch."""

    padded_size: int = 0


def test_padding_is_what_the_longest_row_of_a_batch_adds():
    """Rows of 2, 3 and 7 values make 21, of which 9 are padding; rows of one shape make none."""
    process = ProcessCounters()
    counters = process.of("f")
    counters.rows += 6
    counters.declare_stages(["model", "stage"])
    model, stage = counters.stages["model"], counters.stages["stage"]
    counters.record_batch(model, [Padded(2), Padded(3), Padded(7)], 0.5)
    counters.record_batch(stage, [Padded(), Padded()], 0.25)
    counters.record_batch(None, [Padded()], 0.25)
    page = read(write_metrics(process))
    assert page["wakeful_batch_values_total", "f", "model"] == 21
    assert page["wakeful_padding_values_total", "f", "model"] == 9
    assert ("wakeful_batch_values_total", "f", "stage") not in page
    assert page["wakeful_batch_rows_sum", "f", "model"] == 3
    assert page["wakeful_batch_rows_bucket", "f", "stage", "2.0"] == 1
    assert page["wakeful_worker_seconds_total", "f"] == 1.0


class Loaded:
    """A loaded function."""

    calls = waiting_rows = 1

    @property
    def in_flight(self) -> Loaded:
        """Itself."""
        return self


def test_memory_is_held_until_the_version_that_holds_it_is_unloaded(clock):
    """Another version takes the place of the first, whose unload then changes nothing; what was
    held stays counted.
    """
    counters = FunctionCounters("f")
    first, second = Loaded(), Loaded()

    def byte_s(after_s: float) -> Any:
        clock.advance(after_s)
        return pytest.approx(counters.byte_seconds(time.monotonic()), rel=0.01)

    counters.attach(first, 1000)
    assert byte_s(10) == 10_000
    counters.attach(second, 3000)
    counters.detach(first)
    assert (counters.function, counters.memory_bytes) == (second, 3000)
    assert byte_s(10) == 40_000
    counters.detach(second)
    assert (counters.function, byte_s(60)) == (None, 40_000)
    counters.attach(first, 1000)
    assert byte_s(10) == 50_000


def test_another_version_counts_on_in_the_stages_that_it_has():
    """And what the version before still runs in others is told no more."""
    process = ProcessCounters()
    counters = process.of("f")
    counters.rows += 2
    counters.declare_stages(["kept", "gone"])
    before = dict(counters.stages)
    for stage in before.values():
        counters.record_batch(stage, [Padded()], 0.1)
    counters.declare_stages(["kept", "added"])
    for stage in before.values():
        counters.record_batch(stage, [Padded()], 0.1)
    page = read(write_metrics(process))
    sizes = {key[2]: n for key, n in page.items() if key[0] == "wakeful_batch_rows_count"}
    assert sizes == {"kept": 2}
    assert page["wakeful_worker_seconds_total", "f"] == pytest.approx(0.4)


def test_many_functions_share_their_histograms():
    """Above the number that is asked for, counts stay by function and histograms do not."""
    process = ProcessCounters()
    for name in ("a", "b", "c"):
        process.of(name).calls.record(200, "", 0.4, TIMINGS)
        process.of(name).declare_stages(["s"])
        process.of(name).record_batch(process.of(name).stages["s"], [Padded()], 0.1)
    process.of("never called")
    page = read(write_metrics(process, max_detailed=2))
    assert page["wakeful_request_seconds_count", ALL] == 3
    assert page["wakeful_batch_rows_count", ALL, ALL] == 3
    assert page["wakeful_requests_total", "c", "200"] == 1
    assert {key[1] for key in page if key[0] == "wakeful_request_seconds_count"} == {ALL}
    assert read(write_metrics(process, max_detailed=3))["wakeful_request_seconds_count", "a"] == 1
    assert not [key for key in page if "never called" in key]


def test_what_is_no_longer_declared_is_forgotten():
    """Files that come and go do not make the page grow."""
    process = ProcessCounters()
    for name in ("a", "b"):
        process.of(name).record_wake(0.1)
    process.keep({"b", "c"})
    assert [counters.name for counters in process] == ["b"]


def test_every_family_is_on_the_page_once():
    """Also before anything was called."""
    text = write_metrics(ProcessCounters())
    assert [line for line in text.splitlines() if line.startswith("# TYPE")] == [
        f"# TYPE {family.name} {family.kind}" for family in FAMILIES
    ]


async def samples(served: Served) -> dict[tuple[str, ...], float]:
    """Of the page that a scrape gets."""
    return read((await served.client.get("/metrics")).text)


def test_a_function_counts_on_when_it_has_slept(tmp_path):
    """Its calls, wakes and rows, before and after it was unloaded; reading its metadata is no
    call.
    """

    async def work(served: Served) -> None:
        await served.call("f")
        await served.client.get("/v2/models/f")
        now = await samples(served)
        assert now["wakeful_replicas", "f"] == 1
        assert now["wakeful_requests_in_flight", "f"] == 0
        await served.library.unload("f")
        assert ("wakeful_replicas", "f") not in await samples(served)
        await served.client.post("/v2/models/f", json=[{"n": 1.0}, {"n": 2.0}, {"n": "no"}])
        await served.client.post("/v2/models/f", json={"n": "no"})
        now = await samples(served)
        assert now["wakeful_requests_total", "f", "200"] == 2
        assert now["wakeful_requests_total", "f", "400"] == 1
        assert now["wakeful_errors_total", "f", "wrong_datatype"] == 1
        assert now["wakeful_rows_total", "f"] == 3
        assert now["wakeful_function_wakes_total", "f"] == 2
        assert now["wakeful_function_wake_seconds_total", "f"] > 0
        assert now["wakeful_worker_seconds_total", "f"] > 0
        assert now["wakeful_queue_seconds_count", "f"] == 2

    run(serving(tmp_path, obedient("f", "counted")), work)


def test_a_function_that_does_not_load_counts_its_refusals(tmp_path):
    """Under the reason that its clients get."""
    HANDS["faulty"].fault = "no"

    async def work(served: Served) -> None:
        answer = await served.call("f")
        now = await samples(served)
        assert now["wakeful_requests_total", "f", str(answer.status_code)] == 1
        assert now["wakeful_errors_total", "f", answer.json()["code"]] == 1
        assert ("wakeful_replicas", "f") not in now

    run(serving(tmp_path, obedient("f", "faulty")), work)


def test_calls_in_flight_and_batches_of_a_model(tmp_path):
    """While a call is computed it is in flight; a model's batches count by stage."""

    async def work(served: Served) -> None:
        hand = HANDS["held"]
        hand.may_answer.clear()
        await served.library.load("f")
        call = asyncio.create_task(served.call("f"))
        await served.until_begun("f")
        assert (await samples(served))["wakeful_requests_in_flight", "f"] == 1
        hand.may_answer.set()
        await call
        body = [{"x": [1.0, 2.0, 3.0]}] * 4
        assert (await served.client.post("/v2/models/double", json=body)).status_code == 200
        now = await samples(served)
        assert now["wakeful_batch_rows_sum", "double", "model"] == 4
        assert now["wakeful_model_seconds_sum", "double"] > 0
        assert now["wakeful_requests_in_flight", "f"] == 0

    run(serving(tmp_path, obedient("f", "held"), double(tmp_path)), work)


def test_a_code_of_the_functions_own_breaks_no_page():
    """Whatever text it is, and however many there are."""
    counters = ProcessCounters()
    for index in range(2 * MAX_CODES):
        counters.of("f").calls.record(400, f'no "{index}"\\\n', 0.1, None)
    counts = {
        reason: count
        for (name, *_, reason), count in read(write_metrics(counters)).items()
        if name == "wakeful_errors_total"
    }
    assert (len(counts), counts[OTHER_CODE]) == (MAX_CODES + 1, MAX_CODES)
    assert counts['no "7"\\\n'] == 1


def test_requests_that_call_no_function_are_counted_by_their_status(tmp_path):
    """Unknown paths, metadata, methods and models that are not there; a call by its task is one of
    its function, with its parts.
    """
    told: list[Any] = []

    async def work(served: Served) -> None:
        counters = served.library.counters.of("vowels")
        counters.on_answered = lambda _, call: told.append(call)
        for method, path, body in (
            ("GET", "/nowhere", None),
            ("POST", "/v2/models/nothing", {}),
            ("DELETE", "/v2/models/vowels", None),
            ("GET", "/v2", None),
            ("POST", "/v1/embeddings", {"model": "nothing", "input": "a"}),
            ("POST", "/v1/embeddings", {"model": "vowels", "input": "a"}),
        ):
            answer = await served.client.request(method, path, json=body)
        assert "queue;dur=" in answer.headers["server-timing"]
        now = await samples(served)
        others = {key[-1]: n for key, n in now.items() if key[0] == "wakeful_other_requests_total"}
        assert others == {"404": 3, "405": 1, "200": 1}
        assert now["wakeful_requests_total", "vowels", "200"] == 1
        assert now["wakeful_queue_seconds_count", "vowels"] == 1
        assert now["wakeful_model_seconds_count", "vowels"] == 1

    run(serving(tmp_path, *task_stages.all_declared()), work)
    (call,) = told
    assert (call.wake_s > 0, len(call.call.rows)) == (True, 1)
