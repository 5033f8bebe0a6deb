"""What becomes of outcomes that JSON cannot carry, and of bodies and answers too large for the
event loop.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.errors import RequestError
from runtime.execution.function import Function
from runtime.http import call_handler
from runtime.http.asgi import AsgiApp
from runtime.http.bodies.answers import (
    COPIED_BYTES,
    VALUE_BYTES,
    answer_size,
    response_size,
    tensors_size,
    write_rows,
)
from runtime.http.bodies.offloading import LARGE_BYTES, Offloader
from runtime.http.function_handler import FunctionHandler
from runtime.http.request_headers import RequestDeadline
from runtime.protocol import InferRequest, InferResponse, RequestedOutput
from runtime.settings import Settings
from runtime.system.crash.quarantine import RowDecision, RowQuarantine
from runtime.system.crash.recorder import fingerprint, label_of

HERE = __name__
LARGE_VALUES = LARGE_BYTES // VALUE_BYTES


class Deep:
    """What no JSON has."""


BAD: list[Any] = [np.ones(2, complex), Deep(), 1j, "\ud800", {(1, 2): 3}, 2**70]
"""Values that JSON cannot carry."""


def odd(n: int) -> dict[str, Any]:
    """A number and something more: what JSON cannot carry where n is below 0, much of it where n is
    large.
    """
    if n < 0:
        return {"n": n, "more": BAD[-n - 1]}
    return {"n": n, "more": np.arange(n, dtype=np.float64) if n > 1000 else float("nan")}


def double(x: list[float], n: int = 0) -> list[float]:
    """Twice each."""
    return [2 * value for value in x]


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that serves."""
    return "asyncio"


def caller(*functions: FunctionHandler) -> httpx.AsyncClient:
    """Calls functions at their prefixes."""
    apps = {app.function.spec.route_prefix: AsgiApp(app) for app in functions}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        prefix = "/" + scope["path"].split("/")[1]
        await apps[prefix]({**scope, "root_path": prefix}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=30)


@pytest.fixture
async def client(tmp_path, anyio_backend):
    """Calls the two functions, at /odd and /double."""
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    tight = {"limits": {"max_body_bytes": 1_000_000, "max_ongoing_bytes": 4_000_000}}
    functions = [
        await Function.load(
            FunctionSpec.from_args(
                name, f"/{name}", {"graph": [{"stage": "s", "python": f"{HERE}:{stage}"}], **args}
            ),
            settings,
        )
        for name, stage, args in (
            ("odd", "odd", {}),
            ("double", "double", {}),
            ("tight", "double", tight),
        )
    ]
    async with caller(
        *(FunctionHandler(function, Judge(tmp_path)) for function in functions)
    ) as client:
        yield client
    for function in functions:
        await function.close(5)


class Judge(RowQuarantine):
    """Sentences that a test makes up, by fingerprint."""

    made_up: dict[int, RowDecision] = {}  # noqa: RUF012  # a test fills it, and empties it

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.made_up.clear()

    def decide(self, mark: int, age_s: float = 0.0) -> RowDecision:
        """As a test has it."""
        return self.made_up.get(mark, RowDecision())


@pytest.mark.anyio
@pytest.mark.parametrize("large", [0, 3000])
async def test_a_row_that_json_cannot_carry_fails_alone(client, large):
    """Each gets its own error; NaN is null; the others are answered, in small answers and in large
    ones.
    """
    numbers = [large, *(-1 - index for index in range(len(BAD))), 7]
    answer = await client.post("/odd", json=[{"n": n} for n in numbers])
    assert answer.status_code == 200
    first, *bad, last = answer.json()
    assert first == {"n": large, "more": list(range(large)) if large else None}
    assert last == {"n": 7, "more": None}
    assert [row["code"] for row in bad] == ["function_failed"] * len(BAD)
    assert {row["request_id"] for row in bad} == {answer.headers["x-request-id"]}
    assert (await client.post("/odd", json={"n": -1})).status_code == 500


@pytest.mark.parametrize(
    ("outcomes", "large"),
    [
        ([], False),
        ([RequestError("no")] * LARGE_VALUES, False),
        ([{"a": 1.0}] * (LARGE_VALUES - 1), False),
        ([{"a": 1.0}] * LARGE_VALUES, True),
        ([{"a": "x" * 8 * LARGE_VALUES}], True),
        ([RequestError("no"), {"a": np.zeros((2, LARGE_VALUES // 4))}], True),
        ([{"a": [[1.0] * 128] * 128, "b": []}], True),
        ([{"a": [[1.0] * 128] * 127, "b": [], "c": b""}], False),
    ],
)
def test_the_size_of_an_answer_is_guessed(outcomes, large):
    """From its first good row."""
    assert (answer_size(outcomes) >= LARGE_BYTES) is large


def test_a_list_that_contains_itself_is_looked_at_for_a_time():
    """What is made of it then is the author's error."""
    ring: list[Any] = []
    ring.append(ring)
    assert tensors_size([{"a": ring}], ["a"]) < LARGE_BYTES


@pytest.mark.parametrize(
    ("rows", "is_many"),
    [
        ([{"a": 1}] * (LARGE_VALUES - 1), False),
        ([{"a": 1}] * LARGE_VALUES, True),
        ([{"a": [1.0] * LARGE_VALUES}], True),
        ([{"a": np.zeros(COPIED_BYTES * LARGE_BYTES, np.uint8)}], False),
        ([{"a": np.zeros(COPIED_BYTES * LARGE_BYTES // 2, np.uint8)}] * 2, True),
        ([{"a": 1, "b": [1.0] * LARGE_VALUES}], False),
        ([{}], False),
    ],
)
def test_much_becomes_tensors_beside_the_loop(rows, is_many):
    """Values of the answer alone; one array is a tensor as it is."""
    assert (tensors_size(rows, ["a"]) >= LARGE_BYTES) is is_many


@pytest.mark.parametrize(
    ("binary", "dtype", "is_written_aside"),
    [(True, object, True), (True, np.float32, False), (False, np.float32, True)],
)
def test_many_texts_are_written_beside_the_loop_in_any_form(binary, dtype, is_written_aside):
    """Numbers in binary are sent from where they lie."""
    response = InferResponse("f", "", {"a": np.zeros(LARGE_VALUES, dtype)}, {})
    for outputs, default in (((), binary), ((RequestedOutput("a", binary),), False)):
        size = response_size(response, InferRequest("", {}, outputs, default, {}))
        assert (size >= LARGE_BYTES) is is_written_aside


def test_a_large_answer_is_the_same_text_as_a_small_one(monkeypatch):
    """Whichever way it is written."""
    outcomes = [{"a": np.arange(3)}, RequestError("no", where="[1]"), {"a": [None, "é"]}]
    texts = {write_rows(outcomes, "id"), write_rows([], "id")}
    monkeypatch.setattr("runtime.http.bodies.answers.LARGE_BYTES", 0)
    assert texts == {write_rows(outcomes, "id"), b"[]", write_rows([], "id")}


@pytest.mark.anyio
async def test_a_large_body_is_answered_as_a_small_one(client):
    """By row, by rows and by tensor; and refused as a small one is."""
    numbers = [index / 7 for index in range(40_000)]
    twice = [2 * number for number in numbers]
    assert len(json.dumps(numbers)) > LARGE_BYTES
    assert (await client.post("/double", json={"x": numbers})).json() == {"s": twice}
    assert (await client.post("/double", json=[{"x": numbers}, {"x": 1}])).json()[0] == {"s": twice}
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, len(numbers)], "data": numbers}
    answer = await client.post("/double/infer", json={"inputs": [tensor]})
    assert answer.json()["outputs"][0]["data"] == twice
    texts = [str(number).encode() for number in range(40_000)]
    binary = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    tensor_of_texts = {
        "name": "x",
        "datatype": "BYTES",
        "shape": [1, len(texts)],
        "parameters": {"binary_data_size": len(binary)},
    }
    header = json.dumps({"inputs": [tensor_of_texts]}).encode()
    length = {"inference-header-content-length": str(len(header))}
    assert (
        "takes FP64"
        in (await client.post("/double/infer", content=header + binary, headers=length)).json()[
            "error"
        ]
    )
    refused = await client.post("/double/infer", json={"inputs": [{**tensor, "name": "y"}]})
    assert (refused.status_code, refused.json()["where"]) == (400, "inputs[0].name")
    broken = await client.post(
        "/double",
        content=json.dumps({"x": numbers}).encode()[:-1],
        headers={"content-type": "application/json"},
    )
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_body")


@pytest.mark.anyio
async def test_what_json_becomes_in_memory_is_counted(client, monkeypatch):
    """413 before it is read if it is more than the function may hold, on both routes; a long text
    is no more than a text.
    """
    monkeypatch.setattr(call_handler, "MIN_JSON_MEMORY_BYTES", 0)
    headers = {"content-type": "application/json"}
    few, many = (b'{"x": [' + b"0.5," * count + b"1]}" for count in (90_000, 120_000))
    assert (await client.post("/tight", content=few, headers=headers)).status_code == 200
    refused = await client.post("/tight", content=many, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert "limits.max_ongoing_bytes" in refused.json()["error"]
    tensor = (
        b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 120000], "data": ['
        + b"0.5," * 119_999
        + b"1]}]}"
    )
    assert (await client.post("/tight/infer", content=tensor, headers=headers)).status_code == 413
    text = b'{"y": "' + b"[,{" * 300_000 + b'"}'
    assert (await client.post("/tight", content=text, headers=headers)).json()[
        "code"
    ] == "missing_input"
    monkeypatch.undo()
    # 64 MiB are always read
    assert (await client.post("/tight", content=many, headers=headers)).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("datatype", "is_aside"), [("BYTES", True), ("\\u0042YTES", True), ("FP64", False)]
)
async def test_many_texts_are_split_beside_the_loop(
    tmp_path, anyio_backend, monkeypatch, datatype, is_aside
):
    """However JSON spells their datatype; numbers are taken from where they lie."""
    works = []

    async def offload(self: Offloader, size: int, deadline: RequestDeadline, work: Any) -> Any:
        if size >= LARGE_BYTES:
            works.append(work)
        return work()

    monkeypatch.setattr(Offloader, "run", offload)
    spec = FunctionSpec.from_args(
        "f", "/f", {"graph": [{"stage": "s", "python": f"{HERE}:double"}]}
    )
    function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
    entry = (
        f'{{"name": "x", "datatype": "{datatype}", "shape": [1, 10000], '
        '"parameters": {"binary_data_size": 40000}}'
    )
    head = f'{{"inputs": [{entry}]}}'.encode()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(AsgiApp(FunctionHandler(function)), root_path="/f"),
        base_url="http://test",
        timeout=60,
    ) as client:
        await client.post(
            "/f/infer",
            content=head + bytes(40_000),
            headers={"inference-header-content-length": str(len(head))},
        )
    await function.close(5)
    assert bool(works) == is_aside


@pytest.mark.anyio
async def test_a_deadline_passes_while_a_large_body_is_read(client):
    """504 all the same, and the next call is answered."""
    late = await client.post(
        "/double", json={"x": [0.5] * 200_000}, headers={"x-request-timeout-seconds": "0.001"}
    )
    assert late.status_code == 504
    assert (await client.post("/double", json={"x": [1]})).json() == {"s": [2.0]}


@pytest.mark.anyio
async def test_a_quarantined_row_is_not_run(client):
    """It gets its error, its neighbours their answers; one row, or a tensor, fails whole. A row
    that is to be alone is run.
    """
    rows = [{"x": [1]}, {"x": [2]}, {"x": [3]}]
    body = json.dumps(rows).encode()
    headers = {"content-type": "application/json"}
    label = label_of(
        "double",
        version_hash(
            FunctionSpec.from_args(
                "double", "/double", {"graph": [{"stage": "s", "python": f"{HERE}:double"}]}
            )
        ),
    )
    Judge.made_up[fingerprint(body, label)] = RowDecision(
        alone=frozenset({0, 2}), refused=frozenset({1})
    )
    one, two, three = (await client.post("/double", content=body, headers=headers)).json()
    assert (one, two["code"], three) == ({"s": [2.0]}, "row_quarantined", {"s": [6.0]})
    single = b'{"x": [1]}'
    Judge.made_up[fingerprint(single, label)] = RowDecision(refused=frozenset({0}))
    assert (await client.post("/double", content=single, headers=headers)).json()[
        "code"
    ] == "row_quarantined"
    tensor = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [1, 2]}]}'
    Judge.made_up[fingerprint(tensor, label)] = RowDecision(refused=frozenset({1}))
    refused = await client.post("/double/infer", content=tensor)
    assert (refused.status_code, refused.json()["code"]) == (500, "row_quarantined")
    assert (await client.post("/double", json={"x": [1.5]})).status_code == 200


@pytest.mark.anyio
async def test_rows_of_another_version_are_decided_again(tmp_path, anyio_backend):
    """A repaired function runs what crashed the one before."""
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    body, judge, answers = b'{"x": [1]}', Judge(tmp_path), []
    for made_of in ({"code": "broken"}, {"code": "mended"}):
        args = {
            "graph": [{"stage": "s", "python": f"{HERE}:double"}],
            "deployed": {"made_of": made_of},
        }
        function = await Function.load(FunctionSpec.from_args("double", "/double", args), settings)
        if not answers:
            Judge.made_up[fingerprint(body, function.label)] = RowDecision(refused=frozenset({0}))
        async with caller(FunctionHandler(function, judge)) as client:
            answers.append(
                (
                    await client.post(
                        "/double", content=body, headers={"content-type": "application/json"}
                    )
                ).status_code
            )
        await function.close(1.0)
    assert answers == [500, 200]


@pytest.mark.anyio
async def test_a_quarantined_function_is_looked_at_and_not_run(tmp_path, anyio_backend):
    """Though it is loaded, as one that has a deployment of its own for good is; until that is taken
    back.
    """
    args = {"graph": [{"stage": "s", "python": f"{HERE}:double"}]}
    function = await Function.load(
        FunctionSpec.from_args("double", "/double", args),
        Settings.read({"WAKEFUL_ROOT": str(tmp_path)}),
    )
    app = FunctionHandler(function)
    app.quarantine = "it is quarantined: so"
    async with caller(app) as client:
        refused = await client.post("/double", json={"x": [1]})
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            503,
            "quarantined",
            "60",
        )
        assert "it is quarantined: so" in refused.json()["error"]
        assert (await client.get("/double")).status_code == 200
        assert (await client.get("/double/ready")).status_code == 503
        app.quarantine = ""
        assert (await client.post("/double", json={"x": [1]})).status_code == 200
    await function.close(1.0)


@pytest.mark.anyio
async def test_a_bomb_of_brackets_is_refused(client, monkeypatch):
    """413 before it is parsed; brackets within text are none."""
    monkeypatch.setattr("runtime.protocol.json_text.MAX_NODES", 1000)
    headers = {"content-type": "application/json"}
    for body in (
        b"[" + b"[]," * 1000 + b"[]]",
        b"[" + b"{}," * 1000 + b"{}]",
        b"[" * 2000,
        b'{"x": [' + b"[1]," * 2000 + b"[1]]}",
    ):
        assert (await client.post("/double", content=body, headers=headers)).status_code == 413
    assert (await client.post("/odd", json={"n": 1, "text": "[" * 5000})).json()[
        "code"
    ] == "unknown_input"
