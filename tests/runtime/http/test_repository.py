"""Triton's repository extension and pins over HTTP, by its own client and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from runtime.http.server import library_app
from tests import in_process
from tests.sleepers import HANDS, Served, obedient, run, serving

MODELS = "/v2/repository/models"


def test_tritons_client_loads_and_unloads(tmp_path):
    """Over a socket, as an operator's program does."""

    async def work(served: Served) -> None:
        async with (
            in_process.serving(library_app(served.library)) as port,
            triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client,
        ):
            assert "model_repository" in (await client.get_server_metadata())["extensions"]
            await client.load_model("f")
            assert served.library.state("f").state == "ready"
            (entry,) = await client.get_model_repository_index()
            assert (entry["name"], entry["version"], entry["state"]) == ("f", "1", "READY")
            await client.unload_model("f", unload_dependents=True)
            (entry,) = await client.get_model_repository_index()
            assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "asleep")
            with pytest.raises(InferenceServerException, match="did you mean 'f'"):
                await client.load_model("ff")
            with pytest.raises(InferenceServerException, match="wakeful up"):
                await client.load_model("f", config="{}")
            HANDS["triton"].fault = "no weights"
            with pytest.raises(InferenceServerException, match="no weights"):
                await client.load_model("f")

    run(serving(tmp_path, obedient("f", "triton")), work)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "f/load", b"", 200, None),
        ("POST", "f/load", b"{}", 200, None),
        ("POST", "f/pin", b'{"parameters": {}}', 200, None),
        ("POST", "f/unpin", b"", 200, None),
        ("GET", "f/load", b"", 405, "method_not_allowed"),
        ("POST", "f/erase", b"", 404, "not_found"),
        ("POST", "f/load/again", b"", 404, "not_found"),
        ("POST", "g/load", b"", 404, "not_found"),
        ("POST", "f/load", b"{", 400, "malformed_body"),
        ("POST", "f/load", b'{"parameters": {"config": "x"}}', 400, "unknown_input"),
        ("POST", "f/load", b" " * 70_000, 413, "too_large"),
        ("POST", "always/unload", b"", 409, "bad_request"),
    ],
)
def test_what_the_routes_answer(
    tmp_path, method: str, path: str, body: bytes, status: int, code: str | None
):
    """In our error form, which Triton's clients read."""

    async def work(served: Served) -> Any:
        return await served.client.request(method, f"{MODELS}/{path}", content=body)

    always = obedient("always", "always", autoscaling={"min_replicas": 1})
    answer = run(serving(tmp_path, obedient("f", "routes"), always), work)
    assert (answer.status_code, answer.json().get("code")) == (status, code)


def test_the_index_says_what_is_kept(tmp_path):
    """So that `status` can show it."""

    async def kept(served: Served) -> list[bool]:
        return [of["kept"] for of in (await served.client.get("/")).json()["functions"]]

    async def work(served: Served) -> None:
        assert await kept(served) == [False]
        assert (await served.client.post(f"{MODELS}/f/pin")).status_code == 200
        assert await kept(served) == [True]
        assert (await served.client.post(f"{MODELS}/f/unload")).json()["code"] == "bad_request"
        assert (await served.client.post(f"{MODELS}/f/unpin")).status_code == 200
        assert await kept(served) == [False]

    run(serving(tmp_path, obedient("f", "kept")), work)
