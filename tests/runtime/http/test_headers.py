"""Headers of the request and its id, in stages: given only where a parameter takes them."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.declaration.function_spec import FunctionSpec
from tests.sleepers import Served, run, serving

URL = "/v2/models/f"
GIVEN = {"X-Tenant": "acme", "x-request-id": "r1"}
TENSORS = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}


def asking(stage: str, **args: Any) -> FunctionSpec:
    """A function of one stage of ``tests.refusers``."""
    return FunctionSpec.from_args(
        "f", URL, {"graph": [{"stage": "s", "python": f"tests.refusers:{stage}"}], **args}
    )


def answers(tmp_path, spec: FunctionSpec, *calls: tuple[str, Any, Any]) -> list[Any]:
    """What calls of path, body and headers are answered."""

    async def work(served: Served) -> list[Any]:
        return [
            await served.client.post(URL + path, json=body, headers=headers)
            for path, body, headers in calls
        ]

    return run(serving(tmp_path, spec), work)


def test_a_stage_is_given_what_it_names(tmp_path):
    """By JSON, for each row of an array, by v2; what may be missing is None, and of two of one name
    it gets both.
    """
    answer = {"tenant": "acme", "key": None, "request": "r1"}
    one, rows, tensors, keyed, both = answers(
        tmp_path,
        asking("tell", example={"text": "a"}),
        ("", {"text": "a"}, GIVEN),
        ("", [{"text": "a"}, {"text": 1}, {"text": "b"}], GIVEN),
        ("/infer", TENSORS, {**GIVEN, "authorization": "k"}),
        ("", {"text": "a"}, {**GIVEN, "authorization": "k"}),
        ("", {"text": "a"}, [*GIVEN.items(), ("x-tenant", "b")]),
    )
    assert one.json() == answer
    assert [row.get("tenant") for row in rows.json()] == ["acme", None, "acme"]
    assert {output["name"]: output["data"] for output in tensors.json()["outputs"]} == {
        "tenant": ["acme"],
        "key": ["k"],
        "request": ["r1"],
    }
    assert keyed.json() == {**answer, "key": "k"}
    assert both.json()["tenant"] == "acme, b"


def test_one_that_is_missing_or_too_long_is_refused(tmp_path):
    """By name, with 400 and 431."""
    missing, long = answers(
        tmp_path,
        asking("tell"),
        ("", {"text": "a"}, {}),
        ("", {"text": "a"}, {"x-tenant": "a" * 8193}),
    )
    assert (missing.status_code, missing.json()["code"], missing.json()["where"]) == (
        400,
        "missing_input",
        "headers.x-tenant",
    )
    assert (long.status_code, long.json()["where"]) == (431, "headers.x-tenant")


def test_a_default_is_taken_where_there_is_none(tmp_path):
    """And only there."""
    without, given = answers(
        tmp_path,
        asking("language"),
        ("", {"text": "a"}, {}),
        ("", {"text": "a"}, {"accept-language": "de"}),
    )
    assert (without.json(), given.json()) == ({"s": "en"}, {"s": "de"})


def test_rows_of_a_batch_have_each_their_calls(tmp_path):
    """A stage that takes all rows."""
    (rows,) = answers(
        tmp_path, asking("ids"), ("", [{"text": "a"}, {"text": "b"}], {"x-request-id": "r2"})
    )
    assert rows.json() == [{"s": "a r2"}, {"s": "b r2"}]


def test_metadata_names_them_beside_the_inputs(tmp_path):
    """They are none."""

    async def work(served: Served) -> Any:
        await served.client.post(URL, json={"text": "a"}, headers=GIVEN)
        return (await served.client.get(URL)).json()

    answer = run(serving(tmp_path, asking("tell")), work)
    assert [one["name"] for one in answer["inputs"]] == ["text"]
    assert answer["parameters"] == {"headers": "x-tenant, authorization"}


@pytest.mark.parametrize("stage", ["refuse", "refuse_now", "refuse_some"])
def test_a_stage_refuses_a_row_with_a_status_of_its_own(tmp_path, stage):
    """Alone in an array, whose elements say it; in v2. An upstream that is down is 502, and of a
    stage that takes all rows at once that of all that ran with its row; what is no 4xx is the
    author's fault."""
    numbers, rows, tensors, down, wrong = answers(
        tmp_path,
        asking(stage),
        ("", {"text": "422"}, {}),
        ("", [{"text": "a"}, {"text": "409"}, {"text": "down"}, {"text": "b"}], {}),
        (
            "/infer",
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["403"]}]},
            {},
        ),
        ("", {"text": "down"}, {}),
        ("", {"text": "503"}, {}),
    )
    assert (numbers.status_code, numbers.json()["code"], numbers.json()["where"]) == (
        422,
        "bad_request",
        "text",
    )
    assert "status" not in numbers.json()
    assert [row.get("s") for row in rows.json()] == [
        "a",
        None,
        None,
        None if stage == "refuse_some" else "b",
    ]
    assert [(row["status"], row["code"]) for row in rows.json()[1:3]] == [
        (409, "bad_request"),
        (502, "upstream_failed"),
    ]
    assert (tensors.status_code, tensors.json()["code"]) == (403, "bad_request")
    assert (down.status_code, down.json()["code"]) == (502, "upstream_failed")
    assert (wrong.status_code, wrong.json()["code"]) == (500, "function_failed")


def test_a_stream_is_refused_with_a_status_before_its_first_item(tmp_path):
    """After it the status is in the stream."""
    before, behind = answers(
        tmp_path,
        asking("yielding"),
        ("", {"text": "404"}, {"accept": "application/x-ndjson"}),
        ("", {"text": "a:down"}, {"accept": "application/x-ndjson"}),
    )
    assert (before.status_code, before.json()["code"]) == (404, "bad_request")
    assert behind.status_code == 200
    assert '"status":502' in behind.text.splitlines()[-1]
