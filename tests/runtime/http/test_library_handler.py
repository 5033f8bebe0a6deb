"""Sleeping functions over HTTP: a call wakes, a query does not, and no call fails because of a wake
or an unload that it meets.
"""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import httpx
import pytest

from runtime.http.catalogue.app import catalogue
from runtime.library import entry, eviction
from runtime.library.library import DeclaredFunction
from runtime.system.messages import KnownPaths
from tests.problems import expect_values
from tests.sleepers import HANDS, Served, double, obedient, run, serving


def test_a_hundred_first_calls_are_one_load(tmp_path):
    """Each is answered, with its own number."""

    async def work(served: Served) -> list[httpx.Response]:
        return await asyncio.gather(*(served.call("f", n) for n in range(100)))

    answers = run(serving(tmp_path, obedient("f", "hundred")), work)
    assert [answer.json()["twice"] for answer in answers] == [2 * n for n in range(100)]
    assert HANDS["hundred"].loads == 1


def test_a_model_wakes_and_sleeps_and_wakes(tmp_path):
    """A real model, its delay over twice."""

    async def work(served: Served) -> None:
        for _ in range(3):
            answer = await served.client.post("/v2/models/double", json={"x": [1, 2, 3]})
            assert answer.json() == {"y": [2.0, 4.0, 6.0]}
            await served.until_state("double", "asleep")
        assert served.library.report()["double"].loads == 3

    run(serving(tmp_path, double(tmp_path, autoscaling={"downscale_to_zero_delay_s": 0.01})), work)


def test_a_call_that_comes_while_it_is_unloaded_is_served(tmp_path):
    """The call under way is answered first, then the one that came meanwhile, by another load."""
    hand = HANDS["meanwhile"]

    async def work(served: Served) -> None:
        assert (await served.call("f")).status_code == 200
        hand.may_answer.clear()
        first = asyncio.create_task(served.call("f", 3))
        await served.until_begun("f")
        unload = asyncio.create_task(served.library.unload("f"))
        await served.until_state("f", "draining")
        second = asyncio.create_task(served.call("f", 4))
        await served.until_state("f", "waking")
        assert not first.done()
        hand.may_answer.set()
        assert [(await one).json() for one in (first, second)] == [{"twice": 6}, {"twice": 8}]
        await unload

    run(serving(tmp_path, obedient("f", "meanwhile")), work)
    assert hand.loads == 2


def test_the_longest_idle_is_unloaded_first(tmp_path):
    """With memory for two, the third call unloads the first function, unless that is busy."""
    hand = HANDS["busy"]

    async def work(served: Served) -> None:
        for name in ("a", "b", "c"):
            assert (await served.call(name)).status_code == 200
        assert served.library.counts() == {"asleep": 1, "ready": 2}
        assert served.library.entries.require("a").function is None
        assert (await served.call("a")).status_code == 200  # and b leaves
        hand.may_answer.clear()
        busy = asyncio.create_task(served.call("c"))
        await served.until_begun("c")
        # c is the longest idle, and is busy: a leaves
        assert (await served.call("b")).status_code == 200
        assert served.library.entries.require("a").function is None
        hand.may_answer.set()
        assert (await busy).status_code == 200

    size = 1 << 40  # so that what this process does besides is nothing
    functions = [
        DeclaredFunction(obedient(name, "busy" if name == "c" else "idle"), memory_bytes=size)
        for name in ("a", "b", "c")
    ]
    run(serving(tmp_path, *functions, budget=2 * size), work)


def test_what_does_not_fit_beside_the_busy_is_refused(tmp_path, monkeypatch):
    """503 no_room with the arithmetic, and the function may be called again; what never fits is
    refused at once.
    """
    monkeypatch.setattr(eviction, "MEMORY_WAIT_S", 0.0)
    hand = HANDS["holds"]
    hand.may_answer.clear()

    async def work(served: Served) -> None:
        busy = asyncio.create_task(served.call("a"))
        await served.until_begun("a")
        refused = await served.call("b")
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            503,
            "no_room",
            "1",
        )
        expect_values(
            refused.json()["error"], "600000 MB", "400000 MB of 1000000 MB", "(a 600000 MB)"
        )
        never = (await served.call("huge")).json()
        assert never["code"] == "no_room"
        expect_values(never["error"], "2000000 MB", "1000000 MB")
        hand.may_answer.set()
        assert (await busy).status_code == 200
        assert (await served.call("b")).status_code == 200

    sizes = {"a": 6 * 10**11, "b": 6 * 10**11, "huge": 2 * 10**12}
    functions = [
        DeclaredFunction(obedient(name, "holds" if name == "a" else "x"), memory_bytes=size)
        for name, size in sizes.items()
    ]
    run(serving(tmp_path, *functions, budget=10**12), work)


def test_memory_is_awaited_for_a_moment(tmp_path):
    """A busy function is idle in a moment: the call waits for that instead of being refused."""
    hand = HANDS["moment"]
    hand.may_answer.clear()

    async def work(served: Served) -> None:
        busy = asyncio.create_task(served.call("a"))
        await served.until_begun("a")
        waits = asyncio.create_task(served.call("b"))
        await served.until_state("b", "waking")
        hand.may_answer.set()
        assert [(await one).status_code for one in (busy, waits)] == [200, 200]

    run(
        serving(
            tmp_path,
            *(DeclaredFunction(obedient(name, "moment"), memory_bytes=1 << 40) for name in "ab"),
            budget=1 << 40,
        ),
        work,
    )


def test_a_client_with_a_key_is_not_told_why_a_load_fails(tmp_path):
    """The text has files of the author's, and a key may be one that calls alone. The log has it."""
    hand = HANDS["untold"]
    hand.fault = "/home/author/secret.onnx is gone"

    async def work(served: Served) -> None:
        key = {"x-wakeful-key": "caller"}
        url = served.library.entries.require("f").spec.route_prefix
        answers = [
            await served.client.post(url, json={"x": 1}, headers=key),
            await served.client.post(f"{url}/infer", json={}, headers=key),
            await served.client.get(url, headers=key),
            await served.client.get(f"{url}/ready", headers=key),
        ]
        for answer in answers:
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "secret" not in answer.text
            assert "/functions/" in answer.text
        assert [answer.json().get("code", "") for answer in answers] == [*["load_failed"] * 3, ""]
        for path in ("", "/ready"):
            assert hand.fault in (await served.client.get(f"{url}{path}")).text
        hand.fault = ""

    run(serving(tmp_path, DeclaredFunction(obedient("f", "untold"))), work)


def test_a_load_that_fails_is_not_hammered(tmp_path):
    """503 with the reason and Retry-After, one attempt however many call, and another once it is
    declared again.
    """
    hand = HANDS["broken"]
    hand.fault = "its file is gone"

    async def work(served: Served) -> None:
        answers = await asyncio.gather(*(served.call("f") for _ in range(20)))
        answers += [await served.call("f") for _ in range(5)]
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.json()["code"] for answer in answers} == {"load_failed"}
        assert all(
            "its file is gone" in answer.json()["error"] and int(answer.headers["retry-after"]) >= 1
            for answer in answers
        )
        assert hand.loads == 1
        assert served.library.entries.require("f").state.state == "failed"
        ready = await served.client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()["failed"]) == (503, ["f"])
        hand.fault = ""
        served.library.declare([DeclaredFunction(obedient("f", "broken"))])
        assert (await served.call("f")).status_code == 200
        assert served.library.entries.require("f").state.state == "ready"

    run(serving(tmp_path, obedient("f", "broken")), work)


def test_a_second_attempt_comes_after_the_backoff(tmp_path, monkeypatch):
    """Once the time is over the next call tries again, and a failure doubles it."""
    monkeypatch.setattr(entry, "backoff_s", lambda failures: 0.0 if failures == 1 else 60.0)
    hand = HANDS["again"]
    hand.fault = "still broken"

    async def work(served: Served) -> None:
        for attempts in (1, 2, 2, 2):
            assert (await served.call("f")).status_code == 503
            assert hand.loads == attempts

    run(serving(tmp_path, obedient("f", "again")), work)


def test_a_wake_slower_than_the_caller_goes_on(tmp_path):
    """504 for a call without time; the load goes on, and the next is answered by it."""
    hand = HANDS["slow"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        late = await served.client.post(
            "/v2/models/f", json={"n": 1}, headers={"x-request-timeout-seconds": "0.05"}
        )
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        hand.may_load.set()
        await served.until_state("f", "ready")
        assert (await served.call("f")).status_code == 200

    run(serving(tmp_path, obedient("f", "slow")), work)
    assert hand.loads == 1


def test_no_more_wait_for_a_wake_than_it_takes(tmp_path):
    """Callers beyond max_ongoing_requests and max_queued_requests are 429 at once."""
    hand = HANDS["crowd"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        calls = [asyncio.create_task(served.call("f")) for _ in range(5)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert [call.result().status_code for call in done] == [429]
        assert int(done.pop().result().headers["retry-after"]) >= 1
        hand.may_load.set()
        assert {(await call).status_code for call in waiting} == {200}

    limits = {"max_ongoing_requests": 2, "max_queued_requests": 2}
    run(
        serving(tmp_path, obedient("f", "crowd", limits=limits, batching={"max_batch_size": 1})),
        work,
    )


def test_metadata_and_readiness_wake_no_function(tmp_path):
    """The catalogue, its readiness, its metrics and the report know of a sleeping function without
    loading it.
    """

    async def work(served: Served) -> None:
        for path in (
            "/",
            "/v2",
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/repository/index",
            "/metrics",
            "/v2/models/g",
        ):
            await served.client.get(path)
        assert 'wakeful_functions{state="asleep"} 1.0' in (await served.client.get("/metrics")).text
        assert (await served.client.get("/")).json()["functions"][0]["state"] == "asleep"
        assert served.library.report() == {}

    run(serving(tmp_path, obedient("f", "looked")), work)
    assert HANDS["looked"].loads == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", "f/infr", 404, None),
        ("GET", "f/favicon.ico", 404, None),
        ("GET", "f/versions/2", 404, None),
        ("GET", "f/infer", 405, "POST"),
        ("POST", "f/ready", 405, "GET, HEAD"),
        ("OPTIONS", "f", 405, "GET, HEAD, POST"),
        ("DELETE", "f/versions/1", 405, "GET, HEAD, POST"),
    ],
)
def test_what_no_route_takes_wakes_no_function(
    tmp_path, method: str, path: str, status: int, allow: str | None
):
    """And a loaded one answers the same; 405 says what it takes (RFC 9110, section 15.5.6)."""
    key = f"{method} {path}"

    async def work(served: Served) -> None:
        asleep = await served.client.request(method, f"/v2/models/{path}")
        assert HANDS[key].loads == 0
        await served.library.load("f")
        awake = await served.client.request(method, f"/v2/models/{path}")
        for answer in (asleep, awake):
            assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
        assert awake.json()["error"] == asleep.json()["error"]

    run(serving(tmp_path, obedient("f", key)), work)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/v2/repository/index", "GET, HEAD, POST"),
        ("GET", "/v2/repository/models/f/load", "POST"),
        ("GET", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
    ],
)
def test_other_routes_say_what_they_take(tmp_path, method: str, path: str, allow: str):
    """405 with ``Allow``, as functions do."""

    async def work(served: Served) -> httpx.Response:
        return await served.client.request(method, path)

    answer = run(serving(tmp_path, obedient("f", "allow")), work)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)


def test_the_first_answer_says_what_its_cold_start_was_made_of(tmp_path):
    """Server-Timing has the cold start's phases once; the report and the metrics keep them."""

    async def work(served: Served) -> None:
        first, second = await served.call("f"), await served.call("f")
        names = re.findall(r"(\w+);dur=", first.headers["server-timing"])
        assert names[-1] == "cold_answer"
        assert {
            "total",
            "cold",
            "cold_route",
            "cold_queue",
            "cold_session",
            "cold_stages",
            "cold_warm_up",
        } < set(names)
        assert "cold" not in second.headers["server-timing"]
        wake = served.library.report()["f"].last_wake
        assert wake is not None
        assert sum(wake.phases.values()) <= wake.total_s * 1.001
        assert wake.phases["answer"] > 0
        metrics = (await served.client.get("/metrics")).text
        assert 'wakeful_cold_start_seconds_count{phase="answer"} 1.0' in metrics
        assert 'wakeful_wakes_total{outcome="ok"} 1.0' in metrics

    run(serving(tmp_path, obedient("f", "first")), work)


def test_each_call_that_waited_for_a_wake_says_how_long(tmp_path):
    """Not the first alone, which has the phases; also one that the wake failed for."""

    async def work(served: Served) -> None:
        answers = await asyncio.gather(*(served.call("f", n) for n in range(10)))
        told = [answer.headers["server-timing"] for answer in answers]
        assert all(float(re.findall(r"wake;dur=([\d.]+)", one)[0]) > 0 for one in told)
        assert sum("cold;dur=" in one for one in told) == 1
        assert "wake" not in (await served.call("f")).headers["server-timing"]
        failed = await served.call("g")
        assert failed.status_code == 503
        assert "wake;dur=" in failed.headers["server-timing"]

    HANDS["gone"].fault = "its file is gone"
    run(serving(tmp_path, obedient("f", "each"), obedient("g", "gone")), work)


def test_the_answer_to_an_unknown_function_has_the_nearest(tmp_path):
    """404 in the error form, without a catalogue too; a path below a mount is the whole path."""

    async def work(served: Served) -> None:
        missing = await served.client.post("/v2/models/embedd", json={})
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        expect_values(missing.json()["error"], "'/v2/models/embed'")
        assert (await served.client.get("/v2/models/embed2/ready")).status_code == 404
        assert (await served.client.get("/v2/models/embed/ready")).json() == {
            "name": "embed",
            "ready": True,
        }

    run(serving(tmp_path, obedient("embed", "known"), catalogue=False), work)


def test_an_unknown_path_costs_little_however_many_functions_there_are():
    """The nearest is found at once, twenty are listed at most, and the index is not made for it."""

    async def index() -> list[dict[str, Any]]:
        raise AssertionError

    paths = KnownPaths(f"/v2/models/function-{n:04}" for n in range(1000))

    async def work() -> None:
        transport = httpx.ASGITransport(catalogue(index, lambda: paths))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", timeout=60
        ) as client:
            near = await client.get("/v2/models/functoin-0123/infer")
            far = await client.get("/elsewhere")
            assert (near.status_code, far.status_code) == (404, 404)
            expect_values(near.json()["error"], "'/v2/models/function-0123'")
            expect_values(far.json()["error"], "980 more")
            extensions = (await client.get("/v2")).json()["extensions"]
            assert "model_repository" not in extensions  # nothing here loads and unloads

    asyncio.run(work())


@pytest.mark.slow
def test_hundreds_of_calls_around_the_delay_all_answer(tmp_path, monkeypatch):
    """Ten functions called with random gaps around their delay to sleep, in parallel: none fails,
    and many meet an unload.
    """
    monkeypatch.setattr(eviction, "MIN_UNLOAD_INTERVAL_S", 0.001)
    delay_s, dice = 0.01, random.Random(7)
    names = [f"f{n}" for n in range(10)]

    async def caller(served: Served, name: str) -> list[int]:
        found = []
        for _ in range(30):
            found.append((await served.call(name)).status_code)
            await asyncio.sleep(dice.uniform(0, 2 * delay_s))
        return found

    async def work(served: Served) -> list[list[int]]:
        return await asyncio.gather(*(caller(served, name) for name in names))

    functions = [
        obedient(name, "gaps", autoscaling={"downscale_to_zero_delay_s": delay_s}) for name in names
    ]
    answers = run(serving(tmp_path, *functions), work)
    assert {status for found in answers for status in found} == {200}
    assert HANDS["gaps"].loads > 20


@pytest.mark.parametrize(
    "path",
    ["/v2/models/f", "/v2/models/f/", "/v2/models/f/infer", "/v2/models/f/g", "/" * 60_000, ""],
)
def test_any_path_is_answered(tmp_path, path):
    """Nothing that can be in a path takes long or fails here."""

    async def work(served: Served) -> None:
        found = served.library.entries.find(path)
        assert (found is not None) == path.startswith("/v2/models/f")

    run(serving(tmp_path, obedient("f", "path")), work)


ENCODED = [
    ("/v2/models/%66", 200, 404),
    ("/v2/models/f/%69nfe%72", 400, 400),
    ("/v2/models%2Ff", 404, 404),
    ("/v2/models/%2566", 404, 404),
    ("/v2/models/%6", 404, 404),
]
"""A path, its status where nothing is in front of the functions, and behind HAProxy."""


@pytest.mark.parametrize(("path", "status", "_"), ENCODED)
def test_an_encoded_path_goes_where_the_plain_one_goes(tmp_path, path, status, _):
    """Letters that need not be encoded, where no HAProxy has decoded them."""

    async def work(served: Served) -> None:
        assert (await served.client.post(path, json={"n": 1})).status_code == status

    run(serving(tmp_path, obedient("f", "encoded")), work)


@pytest.mark.parametrize(("path", "_", "status"), ENCODED)
def test_behind_haproxy_no_function_is_reached_by_an_encoded_prefix(tmp_path, path, _, status):
    """HAProxy has decoded what it compares. What is still encoded came to the host for want of a
    prefix that matches, past the function's own deployment, and the host must not load that
    function again."""

    async def work(served: Served) -> None:
        assert (await served.client.post(path, json={"n": 1})).status_code == status
        assert served.library.counts() == ({"asleep": 1} if status == 404 else {"ready": 1})

    run(serving(tmp_path, obedient("f", "encoded"), catalogue=False), work)
