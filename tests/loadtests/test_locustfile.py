"""Locust as a user runs it: in a process of its own, since it patches sockets when it is imported."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtests import samples
from loadtests.answers import safety_stock

pytestmark = pytest.mark.slow

FILE = Path(samples.__file__).with_name("locustfile.py")


def embedding(text: str) -> list[float]:
    """A unit vector for each text; texts 0 and 1 of the samples are near."""
    seed = "alike" if text in samples.TEXTS[:2] else text
    vector = np.random.default_rng(int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16)).normal(size=384)
    return list(vector / np.linalg.norm(vector))


def row(given: dict[str, Any]) -> dict[str, Any]:
    """One row's answer, or the error object of a bad one."""
    if not isinstance(given["text"], str):
        return {"error": "'text' must be a string.", "code": "wrong_datatype"}
    return {"embedding": embedding(given["text"])}


async def call(request: Request) -> Response:
    """An object in, an object out; an array in, an array out."""
    given = await request.json()
    return JSONResponse([row(one) for one in given] if isinstance(given, list) else row(given))


def binary_answer(outputs: dict[str, Any]) -> Response:
    """A v2 answer whose tensors all follow the header."""
    entries, tensors = [], b""
    for name, array in outputs.items():
        data = triton.serialize_byte_tensor(array).item() if array.dtype == np.object_ else array.tobytes()
        datatype = triton.np_to_triton_dtype(array.dtype)
        entries.append({"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": {"binary_data_size": len(data)}})
        tensors += data
    header = json.dumps({"model_name": "x", "outputs": entries}).encode()
    return Response(header + tensors, headers={"Inference-Header-Content-Length": str(len(header))})


async def infer(request: Request) -> Response:
    """Binary v2: BYTES in, FP32 out."""
    body, length = await request.body(), int(request.headers["inference-header-content-length"])
    texts = triton.deserialize_bytes_tensor(body[length:])
    return binary_answer({"embedding": np.array([embedding(text.decode()) for text in texts], np.float32)})


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """Demand as last week's mean; the rest follows."""
    item = samples.Item(**given)
    daily = [round(sum(item.daily_sales[-7:]) / 7, 2)] * item.lead_time_days
    safety = round(safety_stock(item), 2)
    order = max(0, math.ceil(sum(daily) + safety - item.stock_on_hand))
    reasoning = f"order {order or 'nothing'}."
    return {"daily_demand": daily, "expected_demand": sum(daily), "safety_stock": safety, "reorder_quantity": order, "reasoning": reasoning}


async def forecast(request: Request) -> Response:
    """JSON, one item or many."""
    given = await request.json()
    return JSONResponse([plan(one) for one in given] if isinstance(given, list) else plan(given))


async def infer_forecast(request: Request) -> Response:
    """Binary v2: numbers in, numbers and text out."""
    body, start = await request.body(), int(request.headers["inference-header-content-length"])
    given = {}
    for tensor in json.loads(body[:start])["inputs"]:
        end = start + tensor["parameters"]["binary_data_size"]
        values = np.frombuffer(body[start:end], triton.triton_to_np_dtype(tensor["datatype"])).reshape(tensor["shape"])
        given[tensor["name"]], start = values[0].tolist(), end
    return binary_answer(
        {name: np.array([v.encode()], np.object_) if name == "reasoning" else np.array([v]) for name, v in plan(given).items()}
    )


def locust(port: int, *users: str) -> subprocess.CompletedProcess[str]:
    """A short headless run of some user classes or all, its answers in its output."""
    options = ["--headless", "-u", "2", "-r", "2", "-t", "2s", "--host", f"http://127.0.0.1:{port}", "--only-summary"]
    command = [sys.executable, "-m", "locust", "-f", str(FILE), *options, *users]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("path", "wrong", "reason"),
    [
        (samples.EMBED, {"embedding": [0.5] * 384}, "wrong answer: norm"),
        (samples.EMBED, {"vector": []}, "unreadable answer: KeyError"),
    ],
)
def test_a_wrong_answer_of_status_200_fails_the_run(serve: Callable[[Starlette], int], path: str, wrong: Any, reason: str) -> None:
    """Exit 1, and the table of failures says why."""

    async def answer(_request: Request) -> Response:
        return JSONResponse(wrong)

    port = serve(Starlette(routes=[Route(path, answer, methods=["POST"]), Route(f"{path}/infer", infer, methods=["POST"])]))
    done = locust(port, "EmbedUser")
    assert done.returncode == 1, done.stderr
    assert reason in done.stdout + done.stderr


def test_right_answers_pass(serve: Callable[[Starlette], int]) -> None:
    """Every kind of request appears in the table, none failed, exit 0."""
    paths = {"": call, "/infer": infer}, {"": forecast, "/infer": infer_forecast}
    functions = zip((samples.EMBED, samples.FORECAST), paths, strict=True)
    routes = [Route(prefix + path, answer, methods=["POST"]) for prefix, answers in functions for path, answer in answers.items()]
    done = locust(serve(Starlette(routes=routes)), "EmbedUser", "ForecastUser")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("embed json", "embed json, 3 rows", "embed json, 1 bad row", "embed v2 binary", "forecast json", "forecast v2 binary"):
        assert name in done.stdout + done.stderr
