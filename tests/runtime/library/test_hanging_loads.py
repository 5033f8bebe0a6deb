"""A load that does not end: what is said of its function, what its callers get, and what becomes of
it.
"""

from __future__ import annotations

import asyncio
import logging
import math

import httpx
import pytest

from runtime.batching.health.hangs import HUNG_S, MOST_ABANDONED, MOST_ABANDONED_IN_ALL
from runtime.execution.warmup import LOAD_THREAD
from runtime.library.entry import LOAD_HUNG_S
from runtime.library.loading import GIVE_UP_S, load_limit_s
from tests.problems import expect_values
from tests.sleepers import HANDS, Served, obedient, run, serving

F = f"{LOAD_THREAD}f"
G = f"{LOAD_THREAD}g"


@pytest.mark.parametrize(
    ("threads", "under_way", "expected"),
    [
        ([], 0, GIVE_UP_S),
        (["MainThread", LOAD_THREAD.strip(), F], 0, GIVE_UP_S),
        ([F] * (MOST_ABANDONED - 1), 0, GIVE_UP_S),
        ([F] * MOST_ABANDONED, 0, math.inf),
        ([G] * MOST_ABANDONED, 0, GIVE_UP_S),
        ([G] * (MOST_ABANDONED_IN_ALL - 1), 0, GIVE_UP_S),
        ([G] * MOST_ABANDONED_IN_ALL, 0, math.inf),
        ([G] * MOST_ABANDONED_IN_ALL, 1, GIVE_UP_S),
    ],
)
def test_how_long_a_load_may_take(threads: list[str], under_way: int, expected: float) -> None:
    """So long, while few threads were left behind: of the function, and of all."""
    assert load_limit_s("f", threads, under_way) == expected


async def until_loads(key: str, count: int) -> None:
    """Waits until so many objects are being constructed: in a thread, which sends no signal."""
    async with asyncio.timeout(30):
        while HANDS[key].loads != count:
            await asyncio.sleep(0.005)


def test_what_is_said_of_a_load_that_does_not_end(tmp_path, clock, caplog):
    """The log has its stack after half a minute, and callers that wait get 504 that says so. From
    two minutes on it has failed, wherever it is asked, and calls are refused at once. Another
    function is served. When it ends after all, it is ready.
    """
    caplog.set_level(logging.WARNING)
    hand = HANDS["hangs at load"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        async def get(path: str) -> httpx.Response:
            return await served.client.get(path)

        waiting = asyncio.create_task(served.call("f"))
        await until_loads("hangs at load", 1)
        clock.advance(HUNG_S + 1)
        async with asyncio.timeout(30):
            while "has not returned" not in caplog.text:
                await asyncio.sleep(0.005)
        assert "may_load.wait" in caplog.text
        state = served.library.entries.require("f").state
        assert (state.state, "its log says where" in state.reason) == ("waking", True)
        clock.advance(LOAD_HUNG_S)
        late = await waiting
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        expect_values(late.json()["error"], "'f'", "its load has not ended for")
        refused = await served.call("f")
        assert (refused.status_code, refused.json()["code"]) == (503, "load_failed")
        expect_values(refused.json()["error"], "'f'", "its load has not ended for")
        assert int(refused.headers["retry-after"]) > 0
        for path in ("/v2/models/f/ready", "/v2/models/f/versions/1/ready"):
            ready = await get(path)
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
            assert ready.json()["name"] == "f"
            expect_values(ready.json()["reason"], "its load has not ended for")
        assert (await get("/v2/models/f")).status_code == 503
        server = await get("/v2/health/ready")
        assert (server.status_code, server.json()["failed"]) == (503, ["f"])
        index = (await get("/v2/repository/index")).json()
        assert index[0]["state"] == "UNAVAILABLE"
        assert (await served.call("other")).status_code == 200
        hand.may_load.set()
        await served.until_state("f", "ready")
        assert (await get("/v2/models/f/ready")).json() == {"name": "f", "ready": True}
        assert (await served.call("f")).status_code == 200

    functions = obedient("f", "hangs at load"), obedient("other", "beside")
    run(serving(tmp_path, *functions), work)


def test_a_load_that_hangs_is_given_up_and_tried_again(tmp_path, clock):
    """By the next call, though its thread goes on; nothing comes of that when it ends."""
    hand = HANDS["given up"]
    hand.may_load.clear()

    async def work(served: Served) -> None:
        waiting = asyncio.create_task(served.call("f"))
        await until_loads("given up", 1)
        clock.advance(GIVE_UP_S + 1)
        assert (await waiting).status_code in (503, 504)
        await served.until_state("f", "failed")
        expect_values(
            served.library.entries.require("f").state.reason, f"{GIVE_UP_S:g} s", "given up"
        )
        clock.advance(60)
        hand.may_load.set()
        answer = await served.call("f")
        assert (answer.status_code, answer.json(), hand.loads) == (200, {"twice": 2.0}, 2)
        assert served.library.entries.require("f").state.state == "ready"

    run(serving(tmp_path, obedient("f", "given up")), work)


def test_a_function_that_did_not_load_is_not_ready(tmp_path):
    """In the form of the protocol, with the reason; its metadata is refused with the same."""
    hand = HANDS["fails"]
    hand.fault = "no such thing"

    async def work(served: Served) -> None:
        assert (await served.call("f")).status_code == 503
        ready = await served.client.get("/v2/models/f/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        expect_values(ready.json()["reason"], "no such thing")
        assert int(ready.headers["retry-after"]) > 0
        metadata = await served.client.get("/v2/models/f")
        assert (metadata.status_code, metadata.json()["code"]) == (503, "load_failed")
        assert (await served.client.get("/v2/models/f/readi")).status_code == 404

    run(serving(tmp_path, obedient("f", "fails")), work)
