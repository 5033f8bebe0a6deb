"""The routes by task with the shipped functions, as docs/routes.md shows them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from pathlib import Path

import httpx
import numpy as np
import pytest

from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from runtime.http.server import library_app
from tests import in_process, task_stages
from tests.sleepers import Served, run, serving

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "routes.md").read_text(encoding="utf-8")


def shipped(*names: str):
    """Functions of the shipped file."""
    declared = read(ROOT / "serve_config.yaml").functions
    return [FunctionSpec.of(spec) for spec in declared if spec.name in names]


@pytest.mark.models
@pytest.mark.slow
def test_the_example_of_the_page_runs(models):
    """By OpenAI's own client, on `embed`; its numbers are those of the function's own route, and its
    usage what the tokenizer says.
    """
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    def run_example(port: int) -> str:
        printed = io.StringIO()
        code = example.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/routes.md", "exec"), {})
        return printed.getvalue()

    async def work(served: Served) -> None:
        async with in_process.serving(library_app(served.library)) as port:
            assert await asyncio.to_thread(run_example, port) == "384 17\n"
        own = await served.client.post("/v2/models/embed", json={"text": "When is payday?"})
        body = {"model": "embed", "input": "When is payday?"}
        by_task = await served.client.post("/v1/embeddings", json=body)
        numbers = by_task.json()["data"][0]["embedding"]
        assert np.allclose(numbers, own.json()["embedding"], atol=1e-6)
        assert by_task.json()["usage"]["prompt_tokens"] == own.json()["tokens"]
        judged = await served.client.post(
            "/v1/moderations", json={"input": ["what a stupid idiot", "You are a wonderful person"]}
        )
        assert [result["flagged"] for result in judged.json()["results"]] == [True, False]

    run(serving(ROOT, *shipped("embed", "moderate")), work)


def test_the_command_of_the_page_is_a_request(tmp_path):
    """Its body is answered as the page says."""
    (body,) = re.findall(r"-d '(\{.*?\})'", PAGE, re.DOTALL)

    async def work(served: Served) -> httpx.Response:
        return await served.client.post(
            "/v1/rerank",
            content=body.replace("NAME", "rank"),
            headers={"content-type": "application/json"},
        )

    answer = run(serving(tmp_path, task_stages.declared("rank", "rank", "rerank")), work)
    assert len(answer.json()["results"]) == 1
    assert answer.json()["results"][0]["document"] == {"text": "On the last day."}
