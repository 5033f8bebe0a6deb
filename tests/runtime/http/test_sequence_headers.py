"""Calls of a sequence over HTTP: by headers, and by parameters of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.declaration.function_spec import FunctionSpec
from tests.sleepers import Served, double, run, serving

STAGES = "tests.accumulators"
URL = "/v2/models/sum"


def summing(**args: Any) -> FunctionSpec:
    """Adds up what the calls of a sequence bring."""
    graph = [
        {"stage": "add", "python": f"{STAGES}:add"},
        {"stage": "told", "python": f"{STAGES}:told"},
    ]
    return FunctionSpec.from_args(
        "sum", URL, {"graph": graph, "sequences": {"max_sequences": 2}, **args}
    )


def headers(identity: str = "a", *flags: str) -> dict[str, str]:
    """Of a call in a sequence."""
    return {"x-sequence-id": identity, **{f"x-sequence-{flag}": "1" for flag in flags}}


def tensors(n: int, **parameters: Any) -> dict[str, Any]:
    """A v2 request."""
    return {
        "inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [n]}],
        "parameters": parameters,
    }


def test_the_calls_of_a_sequence_by_headers(tmp_path):
    """Start, go on, end; what follows the end is answered that nothing is kept."""

    async def work(served: Served) -> None:
        first = await served.client.post(URL, json={"n": 1}, headers=headers("a", "start"))
        second = await served.client.post(URL, json=[{"n": 2}], headers=headers())
        third = await served.client.post(URL, json={"n": 3}, headers=headers("a", "end"))
        assert [answer.json() for answer in (first, second, third)] == [
            {"sum": 1, "calls": 1},
            [{"sum": 3, "calls": 2}],
            {"sum": 6, "calls": 3},
        ]
        lost = await served.client.post(URL, json={"n": 3}, headers=headers())
        assert (lost.status_code, lost.json()["code"], lost.json()["where"]) == (
            409,
            "sequence_unknown",
            "sequence_id",
        )
        assert "x-sequence-start: 1" in lost.json()["error"]

    run(serving(tmp_path, summing()), work)


def test_the_calls_of_a_sequence_by_parameters(tmp_path):
    """As tritonclient sends them; the number 7 and the text 7 are one sequence, and headers do
    where parameters name none.
    """

    async def work(served: Served) -> None:
        async def total(n: int, headers: dict[str, str] | None = None, **parameters: Any) -> int:
            answer = await served.client.post(
                f"{URL}/infer", json=tensors(n, **parameters), headers=headers
            )
            assert answer.status_code == 200, answer.text
            return {output["name"]: output["data"][0] for output in answer.json()["outputs"]}["sum"]

        assert await total(1, sequence_id=7, sequence_start=True, sequence_end=False) == 1
        assert await total(2, sequence_id="7", sequence_start=False) == 3
        assert await total(3, headers("7")) == 6
        assert await total(4, {"x-sequence-id": "other"}, sequence_id=7, sequence_end=True) == 10
        assert served.library.entries.require("sum").function.sequence_count == 0

    run(serving(tmp_path, summing()), work)


def test_a_call_that_haproxy_sends_again_is_answered_again_and_not_computed_again(tmp_path):
    """Its connection to a replica that lives broke before the answer was through. By HAProxy's name
    for it: a client may well send the same twice.
    """

    async def work(served: Served) -> None:
        async def total(n: int, call: str, *flags: str) -> int:
            sent = {**headers("a", *flags), "x-wakeful-call": call}
            answer = await served.client.post(URL, json={"n": n}, headers=sent)
            rows = await served.client.post(URL, json=[{"n": n}], headers=sent)
            infer = await served.client.post(f"{URL}/infer", json=tensors(n), headers=sent)
            assert {answer.status_code, rows.status_code, infer.status_code} == {200}
            found = {output["name"]: output["data"][0] for output in infer.json()["outputs"]}
            assert [found] == rows.json() == [answer.json()]
            return int(found["sum"])

        assert await total(1, "10-1-1", "start") == 1
        assert await total(2, "11-1-2") == 3
        assert await total(2, "12-1-3") == 5  # another call
        ended = {**headers("a", "end"), "x-wakeful-call": "13-1-4"}
        last = await served.client.post(URL, json={"n": 1}, headers=ended)
        again = await served.client.post(URL, json={"n": 1}, headers=ended)
        assert (last.json(), again.status_code) == ({"sum": 6, "calls": 4}, 409)

    run(serving(tmp_path, summing()), work)


@pytest.mark.parametrize(
    ("sent", "code", "where"),
    [
        ({"json": {"n": 1}}, "missing_input", "sequence_id"),
        ({"json": {"n": 1}, "headers": {"x-sequence-start": "1"}}, "bad_request", "x-sequence-id"),
        (
            {"json": {"n": 1}, "headers": {"x-sequence-id": "a", "x-sequence-start": "yes"}},
            "bad_request",
            "x-sequence-start",
        ),
        ({"json": {"n": 1}, "headers": headers("x" * 129)}, "bad_request", "x-sequence-id"),
        ({"json": [{"n": 1}, {"n": 2}], "headers": headers("a", "start")}, "bad_request", ""),
        ({"url": "/infer", "json": tensors(1)}, "missing_input", "sequence_id"),
        (
            {"url": "/infer", "json": tensors(1, sequence_id=-1)},
            "bad_request",
            "parameters.sequence_id",
        ),
        (
            {"url": "/infer", "json": tensors(1, sequence_id=1.5)},
            "bad_request",
            "parameters.sequence_id",
        ),
        (
            {"url": "/infer", "json": tensors(1, sequence_id=1, sequence_start=1)},
            "malformed_body",
            "parameters.sequence_start",
        ),
        (
            {"url": "/infer", "json": tensors(1, sequence_start=True)},
            "bad_request",
            "parameters.sequence_id",
        ),
    ],
)
def test_what_is_no_call_of_a_sequence_is_refused(tmp_path, sent, code, where):
    """400, and nothing begins."""

    async def work(served: Served) -> None:
        answer = await served.client.post(f"{URL}{sent.pop('url', '')}", **sent)
        assert (answer.status_code, answer.json()["code"], answer.json()["where"]) == (
            400,
            code,
            where,
        )
        assert served.library.entries.require("sum").function.sequence_count == 0

    run(serving(tmp_path, summing()), work)


def test_more_sequences_than_are_kept_are_refused(tmp_path):
    """429 with Retry-After; no live sequence is dropped."""

    async def work(served: Served) -> None:
        for identity in ("a", "b"):
            await served.client.post(URL, json={"n": 1}, headers=headers(identity, "start"))
        full = await served.client.post(URL, json={"n": 1}, headers=headers("c", "start"))
        assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (
            429,
            "too_many_sequences",
            "60",
        )
        assert (
            await served.client.post(URL, json={"n": 1}, headers=headers("a", "end"))
        ).status_code == 200
        assert (
            await served.client.post(URL, json={"n": 1}, headers=headers("c", "start"))
        ).status_code == 200

    run(serving(tmp_path, summing()), work)


def test_a_function_is_not_unloaded_while_its_sequences_live(tmp_path):
    """However short its delay is; when the last of them has ended or expired, it sleeps."""
    asleep_at_once = {"downscale_to_zero_delay_s": 0}

    async def work(served: Served) -> None:
        await served.client.post(URL, json={"n": 1}, headers=headers("a", "start"))
        served.library.unload_when_idle("sum")
        assert served.library.report()["sum"].sequences == 1
        assert (await served.client.post(URL, json={"n": 2}, headers=headers())).json() == {
            "sum": 3,
            "calls": 2,
        }
        assert served.library.entries.require("sum").state.state == "ready"
        await served.client.post(URL, json={"n": 2}, headers=headers("a", "end"))
        await served.until_state("sum", "asleep")

    run(serving(tmp_path, summing(autoscaling=asleep_at_once)), work)


def test_a_function_that_keeps_nothing_takes_no_notice(tmp_path):
    """Clients name sequences to every model; there is nothing that could be lost."""

    async def work(served: Served) -> None:
        request = {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
            "parameters": {"sequence_id": 1},
        }
        answer = await served.client.post(
            "/v2/models/double/infer", json=request, headers={"x-sequence-start": "perhaps"}
        )
        assert answer.json()["outputs"][0]["data"] == [2, 4, 6]

    run(serving(tmp_path, double(tmp_path)), work)


def test_the_metadata_says_that_calls_belong_together(tmp_path):
    """For clients that have to name a sequence."""

    async def work(served: Served) -> None:
        assert (await served.client.get(URL)).json()["parameters"] == {"sequences": True}

    run(serving(tmp_path, summing()), work)


def test_a_sequence_belongs_to_the_key_that_began_it(tmp_path):
    """By headers and by parameters: what the edge says of the key is a part of the id."""

    async def work(served: Served) -> None:
        ops, ci = {"x-wakeful-key": "ops"}, {"x-wakeful-key": "ci"}
        begun = await served.client.post(
            URL, json={"n": 1}, headers={**headers("7", "start"), **ops}
        )
        assert begun.json() == {"sum": 1, "calls": 1}
        for stranger in (ci, {}):
            by_header = await served.client.post(
                URL, json={"n": 5}, headers={**headers("7"), **stranger}
            )
            by_parameter = await served.client.post(
                f"{URL}/infer", json=tensors(5, sequence_id="7"), headers=stranger
            )
            assert (by_header.status_code, by_parameter.status_code) == (409, 409)
        more = await served.client.post(f"{URL}/infer", json=tensors(2, sequence_id=7), headers=ops)
        assert more.status_code == 200
        last = await served.client.post(URL, json={"n": 3}, headers={**headers("7", "end"), **ops})
        assert last.json() == {"sum": 6, "calls": 3}

    run(serving(tmp_path, summing()), work)
