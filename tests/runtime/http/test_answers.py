"""What becomes of outcomes that JSON cannot carry, and of bodies and answers too large for the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from runtime.errors import RequestError
from runtime.function import Function
from runtime.http.answers import LARGE_VALUES, is_large, rows_text
from runtime.http.aside import LARGE_BYTES, Aside
from runtime.http.function_app import FunctionApp
from runtime.http.identity import RequestIds
from runtime.http.patience import Patience
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.witness.condemned import Condemned, Sentence
from runtime.witness.fingerprint import fingerprint

HERE = __name__


class Deep:
    """What no JSON has."""


BAD: list[Any] = [b"\xff", Deep(), 1j, "\ud800", {1: 2}, 2**70]
"""Values that JSON cannot carry."""


def odd(n: int) -> dict[str, Any]:
    """A number and something more: what JSON cannot carry where n is below 0, much of it where n is large."""
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


@pytest.fixture
async def client(tmp_path, anyio_backend):
    """Calls the two functions, at /odd and /double."""
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    functions = [
        await Function.load(FunctionSpec.from_args(name, f"/{name}", {"graph": [{"stage": "s", "python": f"{HERE}:{name}"}]}), settings)
        for name in ("odd", "double")
    ]
    apps = {function.spec.route_prefix: RequestIds(FunctionApp(function, Judge(tmp_path))) for function in functions}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        prefix = "/" + scope["path"].split("/")[1]
        await apps[prefix]({**scope, "root_path": prefix}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=30) as client:
        yield client
    for function in functions:
        await function.close(5)


class Judge(Condemned):
    """Sentences that a test makes up, by fingerprint."""

    made_up: dict[int, Sentence] = {}  # noqa: RUF012  # a test fills it, and empties it

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.made_up.clear()

    def sentence(self, mark: int, age_s: float = 0.0) -> Sentence:
        """As a test has it."""
        return self.made_up.get(mark, Sentence())


@pytest.mark.anyio
@pytest.mark.parametrize("large", [0, 3000])
async def test_a_row_that_json_cannot_carry_fails_alone(client, large):
    """Each gets its own error; NaN is null; the others are answered, in small answers and in large ones."""
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
    assert is_large(outcomes) is large


def test_a_large_answer_is_the_same_text_as_a_small_one(monkeypatch):
    """Whichever way it is written."""
    outcomes = [{"a": np.arange(3)}, RequestError("no", where="[1]"), {"a": [None, "é"]}]
    texts = {rows_text(outcomes, "id"), rows_text([], "id")}
    monkeypatch.setattr("runtime.http.answers.LARGE_VALUES", 0)
    assert texts == {rows_text(outcomes, "id"), b"[]", rows_text([], "id")}


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
    tensor_of_texts = {"name": "x", "datatype": "BYTES", "shape": [1, len(texts)], "parameters": {"binary_data_size": len(binary)}}
    header = json.dumps({"inputs": [tensor_of_texts]}).encode()
    length = {"inference-header-content-length": str(len(header))}
    assert "takes FP64" in (await client.post("/double/infer", content=header + binary, headers=length)).json()["error"]
    refused = await client.post("/double/infer", json={"inputs": [{**tensor, "name": "y"}]})
    assert (refused.status_code, refused.json()["where"]) == (400, "inputs[0].name")
    broken = await client.post("/double", content=json.dumps({"x": numbers}).encode()[:-1], headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_body")


@pytest.mark.anyio
async def test_a_deadline_passes_while_a_large_body_is_read(client):
    """504 all the same, and the next call is answered."""
    late = await client.post("/double", json={"x": [0.5] * 200_000}, headers={"x-request-timeout-seconds": "0.001"})
    assert late.status_code == 504
    assert (await client.post("/double", json={"x": [1]})).json() == {"s": [2.0]}


@pytest.mark.anyio
async def test_work_beside_the_loop_is_one_at_a_time(anyio_backend):
    """Also where a caller left: his thread's work is finished before the next begins."""
    aside, waits = Aside(), Patience(asyncio.get_running_loop().time(), 30.0)
    began, may_end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow() -> None:
        loop.call_soon_threadsafe(began.set)
        assert may_end.wait(30)

    left = asyncio.create_task(aside.run(waits, slow))
    await began.wait()
    left.cancel()
    second = asyncio.create_task(aside.run(waits, lambda: "done"))
    await asyncio.sleep(0.01)
    assert not second.done()
    may_end.set()
    assert await second == "done"


@pytest.mark.anyio
async def test_a_condemned_row_is_not_run(client):
    """It gets its error, its neighbours their answers; one row, or a tensor, fails whole. Who is to be alone is run."""
    rows = [{"x": [1]}, {"x": [2]}, {"x": [3]}]
    body = json.dumps(rows).encode()
    headers = {"content-type": "application/json"}
    Judge.made_up[fingerprint(body, "double")] = Sentence(alone=frozenset({0, 2}), refused=frozenset({1}))
    one, two, three = (await client.post("/double", content=body, headers=headers)).json()
    assert (one, two["code"], three) == ({"s": [2.0]}, "row_quarantined", {"s": [6.0]})
    single = b'{"x": [1]}'
    Judge.made_up[fingerprint(single, "double")] = Sentence(refused=frozenset({0}))
    assert (await client.post("/double", content=single, headers=headers)).json()["code"] == "row_quarantined"
    tensor = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [1, 2]}]}'
    Judge.made_up[fingerprint(tensor, "double")] = Sentence(refused=frozenset({1}))
    refused = await client.post("/double/infer", content=tensor)
    assert (refused.status_code, refused.json()["code"]) == (500, "row_quarantined")
    assert (await client.post("/double", json={"x": [1.5]})).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b'{"x": [1], "x": [2]}', b'[{"x": [1]}, {"x": [1], "n": 1, "n": 2}]'])
async def test_a_field_that_stands_twice_is_refused(client, body):
    """The parser would keep the last one silently."""
    refused = await client.post("/double", content=body, headers={"content-type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed_body")
    assert "twice" in refused.json()["error"]


@pytest.mark.anyio
async def test_a_bomb_of_brackets_is_refused(client, monkeypatch):
    """413 before it is parsed; brackets within text are none."""
    monkeypatch.setattr("runtime.wire.jsontext.MAX_NODES", 1000)
    headers = {"content-type": "application/json"}
    for body in (b"[" + b"[]," * 1000 + b"[]]", b"[" + b"{}," * 1000 + b"{}]", b"[" * 2000, b'{"x": [' + b"[1]," * 2000 + b"[1]]}"):
        assert (await client.post("/double", content=body, headers=headers)).status_code == 413
    assert (await client.post("/odd", json={"n": 1, "text": "[" * 5000})).json()["code"] == "unknown_input"
