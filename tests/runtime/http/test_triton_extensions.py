"""Triton's extensions of configuration and statistics, by its own client and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http.aio as triton_aio
from tritonclient.http import InferInput

from runtime.declaration.function_spec import FunctionSpec
from runtime.http.server import library_app
from tests import in_process
from tests.sleepers import HANDS, Served, double, obedient, run, serving

GREET = {"graph": [{"stage": "greeting", "python": "tests.basic_stages:greet"}]}


def test_tritons_client_reads_both(tmp_path: Path) -> None:
    """What perf_analyzer asks before, between and after its calls."""

    async def work(served: Served) -> None:
        async with (
            in_process.serving(library_app(served.library)) as port,
            triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client,
        ):
            extensions = (await client.get_server_metadata())["extensions"]
            assert {"model_configuration", "statistics", "binary_tensor_data"} <= set(extensions)
            config = await client.get_model_config("double")
            assert config == await client.get_model_config("double", model_version="1")
            assert (config["name"], config["max_batch_size"]) == ("double", 4)
            assert (config["platform"], config["backend"]) == ("onnxruntime_onnx", "onnxruntime")
            (takes,), (gives,) = config["input"], config["output"]
            assert (takes["name"], takes["data_type"], takes["dims"]) == ("x", "TYPE_FP32", [3])
            assert (gives["name"], gives["data_type"], gives["dims"]) == ("y", "TYPE_FP32", [3])
            assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 2000
            assert config["model_transaction_policy"] == {"decoupled": False}
            for rows in (1, 3):
                tensor = InferInput("x", [rows, 3], "FP32")
                tensor.set_data_from_numpy(np.ones((rows, 3), np.float32))
                await client.infer("double", [tensor])
            assert (await served.client.post("/v2/models/double", json={})).status_code == 400
            (found,) = (await client.get_inference_statistics("double"))["model_stats"]
            every = (await client.get_inference_statistics())["model_stats"]
        assert [one["name"] for one in every] == ["double", "asleep"]
        assert (found["name"], found["version"]) == ("double", "1")
        assert (found["inference_count"], found["execution_count"]) == (4, 2)
        assert found["last_inference"] > 1_700_000_000_000
        parts = found["inference_stats"]
        assert {name: parts[name]["count"] for name in parts} == {
            "success": 2,
            "fail": 1,
            "queue": 2,
            "compute_input": 2,
            "compute_infer": 2,
            "compute_output": 2,
            "cache_hit": 0,
            "cache_miss": 0,
        }
        computed = sum(parts[f"compute_{part}"]["ns"] for part in ("input", "infer", "output"))
        assert 0 < computed <= parts["success"]["ns"]
        assert [
            (one["batch_size"], one["compute_infer"]["count"]) for one in found["batch_stats"]
        ] == [
            (1, 1),
            (3, 1),
        ]

    batching = {"max_batch_size": 4, "batch_wait_timeout_s": 0.002}
    run(serving(tmp_path, double(tmp_path, batching=batching), obedient("asleep", "none")), work)


def test_statistics_wake_nothing(tmp_path: Path) -> None:
    """They are counts; the configuration needs the function, as its metadata does."""

    async def work(served: Served) -> None:
        for path in ("/v2/models/f/stats", "/v2/models/f/versions/1/stats", "/v2/models/stats"):
            answer = await served.client.get(path)
            assert answer.json()["model_stats"][0]["inference_count"] == 0
        assert served.library.entries.require("f").state.state == "asleep"
        assert HANDS["wakes"].loads == 0
        assert (await served.client.get("/v2/models/f/config")).json()["backend"] == "python"
        assert HANDS["wakes"].loads == 1

    run(serving(tmp_path, obedient("f", "wakes")), work)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/f/stats", 405),
        ("POST", "/v2/models/f/config", 405),
        ("GET", "/v2/models/f/versions/2/config", 404),
        ("GET", "/v2/models/f/versions/2/stats", 404),
        ("GET", "/v2/models/g/stats", 404),
        ("POST", "/v2/models/stats", 404),
    ],
)
def test_other_methods_and_versions_are_refused(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    """As at the other routes of a function."""

    async def work(served: Served) -> Any:
        return (await served.client.request(method, path)).status_code

    assert run(serving(tmp_path, obedient("f", "refused")), work) == status


def test_counts_outlive_a_sleep(tmp_path: Path) -> None:
    """A function that sleeps and wakes goes on counting; the last call stays where it was."""

    async def work(served: Served) -> None:
        await served.call("f", 3)
        before = (await served.client.get("/v2/models/f/stats")).json()["model_stats"][0]
        await served.library.unload("f")
        asleep = (await served.client.get("/v2/models/f/stats")).json()["model_stats"][0]
        assert abs(asleep.pop("last_inference") - before.pop("last_inference")) <= 1
        assert asleep == before
        assert before["inference_count"] == 1

    run(serving(tmp_path, obedient("f", "outlive")), work)


def test_a_text_a_row_may_come_in_a_list_of_one(tmp_path: Path) -> None:
    """As clients of Triton send it, whose models have ``dims: [1]``; in JSON and in binary."""
    spec = FunctionSpec.from_args("greet", "/v2/models/greet", GREET)

    async def work(served: Served) -> None:
        async with (
            in_process.serving(library_app(served.library)) as port,
            triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client,
        ):
            config = await client.get_model_config("greet")
            assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [-1])
            for shape in ([2, 1], [2]):
                for binary in (True, False):
                    tensor = InferInput("name", shape, "BYTES")
                    names = np.array([b"ada", b"bob"], object).reshape(shape)
                    tensor.set_data_from_numpy(names, binary_data=binary)
                    result = await client.infer("greet", [tensor])
                    assert result.as_numpy("greeting").shape == (2,)
        for shape in ([2, 2], [1, 2], [2, 1, 1]):
            data = ["x"] * int(np.prod(shape))
            body = {"inputs": [{"name": "name", "datatype": "BYTES", "shape": shape, "data": data}]}
            answer = await served.client.post("/v2/models/greet/infer", content=json.dumps(body))
            assert (answer.status_code, answer.json()["code"]) == (400, "wrong_shape")

    run(serving(tmp_path, spec), work)
