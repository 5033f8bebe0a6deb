"""A call's deadline, from the edge to the answer: what lowers it, what cannot raise it, and what is
not computed once it has passed.
"""

from __future__ import annotations

import asyncio
import re
import time

import httpx
import pytest

from tests.sleepers import HANDS, Served, obedient, run, serving


def edge(age_s: float) -> dict[str, str]:
    """The header by which the edge says when it had the call."""
    return {"x-wakeful-call": f"{(time.time() - age_s) * 1e6:.0f}-1-1"}


@pytest.mark.parametrize("is_awake", [False, True])
def test_a_call_whose_time_is_over_wakes_and_computes_nothing(tmp_path, is_awake):
    """504 on arrival."""

    async def work(served: Served) -> None:
        if is_awake:
            await served.call("f")
        late = await served.client.post("/v2/models/f", json={"n": 1}, headers=edge(40))
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        function = served.library.entries.require("f").function
        assert (function.in_flight.total_calls if function else None) == (1 if is_awake else None)
        assert served.library.entries.require("f").state.state == (
            "ready" if is_awake else "asleep"
        )

    run(serving(tmp_path, obedient("f", "late")), work)


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({"x-request-timeout-seconds": "0.05"}, {}),
        ({"x-wakeful-timeout-seconds": "0.05"}, {}),
        (edge(29.95), {}),
        ({}, {"timeout": 50_000}),
        ({"x-request-timeout-seconds": "nan"}, {"timeout": 50_000}),
    ],
)
def test_a_client_lowers_its_deadline(tmp_path, headers, parameters):
    """By a header, by the age that the edge gives, by Triton's parameter in microseconds."""
    hand = HANDS["lowered"]

    async def work(served: Served) -> None:
        await served.call("f")
        hand.may_answer.clear()
        request = {
            "inputs": [{"name": "n", "datatype": "FP64", "shape": [1], "data": [1]}],
            "parameters": parameters,
        }
        if "x-wakeful-call" in headers:
            headers.update(edge(29.95))  # at the time of the call, not of the table
        late = await served.client.post("/v2/models/f/infer", json=request, headers=headers)
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        hand.may_answer.set()
        assert (await served.call("f")).status_code == 200

    run(serving(tmp_path, obedient("f", "lowered")), work)


def test_a_client_does_not_raise_or_remove_its_deadline(tmp_path):
    """What is no time, and what is a longer one, leave the function's own."""
    hand = HANDS["unraised"]
    hand.may_answer.clear()
    values = [b"0", b"-1", b"nan", b"inf", b"1e309", b"0xff", b"abc", b"\xff", b"3600"]
    names = [b"x-request-timeout-seconds", b"x-wakeful-timeout-seconds"]

    async def work(served: Served) -> None:
        await served.library.load("f")
        more = (b"x-request-disconnect-disabled", b"?1")
        calls = [
            served.client.post("/v2/models/f", json={"n": 1}, headers=[(name, value), more])
            for name in names
            for value in values
        ]
        assert [late.status_code for late in await asyncio.gather(*calls)] == [504] * len(calls)
        hand.may_answer.set()

    run(serving(tmp_path, obedient("f", "unraised", limits={"request_timeout_s": 0.05})), work)


def test_a_wake_and_a_run_share_one_deadline(tmp_path, clock):
    """What the wake took is not left for the run."""
    hand = HANDS["shared"]
    hand.may_load.clear()
    hand.may_answer.clear()

    async def work(served: Served) -> None:
        call = asyncio.create_task(served.call("f"))
        await served.until_state("f", "waking")
        clock.advance(20)
        hand.may_load.set()
        await served.until_begun("f")
        assert not call.done()
        clock.advance(40)
        late = await call
        assert late.status_code == 504
        left = re.search(r"within the ([\d.]+) s that its caller", late.json()["error"])
        assert left is not None, late.text
        assert 35 < float(left[1]) <= 40
        hand.may_answer.set()

    run(serving(tmp_path, obedient("f", "shared", limits={"request_timeout_s": 60})), work)


def test_a_timeout_is_read_as_triton_reads_it(tmp_path):
    """0 is none; what is no number of microseconds is 400, naming the parameter."""

    async def work(served: Served) -> None:
        tensor = {"name": "n", "datatype": "FP64", "shape": [1], "data": [1]}

        async def infer(micros: object) -> httpx.Response:
            return await served.client.post(
                "/v2/models/f/infer", json={"inputs": [tensor], "parameters": {"timeout": micros}}
            )

        assert [(await infer(micros)).status_code for micros in (0, 30_000_000)] == [200, 200]
        for micros in (-1, 1.5, True, "5", None):
            refused = await infer(micros)
            assert (refused.status_code, refused.json()["where"]) == (400, "parameters.timeout")

    run(serving(tmp_path, obedient("f", "read")), work)
