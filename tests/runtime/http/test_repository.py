"""Triton's repository extension and pins over HTTP, by its own client and by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from runtime.http.asgi import AsgiApp
from runtime.http.catalogue.app import catalogue
from runtime.http.exchange import Request
from runtime.http.server import library_app
from runtime.system.messages import KnownPaths
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
            assert served.library.entries.require("f").state.state == "ready"
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


def test_the_index_of_what_is_ready_has_no_other(tmp_path):
    """As the extension has it; what is no such request is refused."""

    async def names(served: Served, **more: Any) -> Any:
        answer = await served.client.post("/v2/repository/index", **more)
        return [of["name"] for of in answer.json()] if answer.is_success else answer.json()["where"]

    async def work(served: Served) -> None:
        await served.call("g")
        assert await names(served) == ["f", "g"]
        assert await names(served, json={"ready": False}) == ["f", "g"]
        assert await names(served, json={"ready": True}) == ["g"]
        assert await names(served, json={"ready": 1}) == "ready"
        assert await names(served, json=["ready"]) == ""

    run(serving(tmp_path, obedient("f", "index"), obedient("g", "index")), work)


def test_an_error_says_when_to_call_again(tmp_path):
    """A load that has failed is not tried again at once."""

    async def work(served: Served) -> None:
        HANDS["later"].fault = "no weights"
        answer = await served.client.post(f"{MODELS}/f/load")
        assert (answer.status_code, answer.json()["code"]) == (503, "load_failed")
        assert int(answer.headers["retry-after"]) >= 1

    run(serving(tmp_path, obedient("f", "later")), work)


def test_a_body_that_does_not_arrive_is_not_waited_for(tmp_path, monkeypatch):
    """408, as at a function; and a client that disconnects is no fault."""
    monkeypatch.setattr("runtime.http.catalogue.app.UPLOAD_TIMEOUT_S", 0.05)
    head = f"POST {MODELS}/f/load HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\n{{".encode()

    async def work(served: Served) -> None:
        async with in_process.serving(library_app(served.library)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            async with asyncio.timeout(20):
                answer = await reader.readuntil(b"\r\n\r\n")
            writer.close()
        assert answer.startswith(b"HTTP/1.1 408")

    run(serving(tmp_path, obedient("f", "slow body")), work)


def test_a_client_that_disconnects_is_no_fault(tmp_path, caplog):
    """Nothing is loaded, and nothing logged."""

    async def work(served: Served) -> None:
        async with in_process.serving(library_app(served.library)) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"POST {MODELS}/f/load HTTP/1.1\r\ncontent-length: 9\r\n\r\n".encode())
            await writer.drain()
            writer.close()
        assert served.library.entries.require("f").state.state == "asleep"

    run(serving(tmp_path, obedient("f", "leaves")), work)
    assert not caplog.records


def test_a_fault_has_the_error_form():
    """Whatever route it is of; the log has it whole."""

    async def index() -> list[dict[str, Any]]:
        raise LookupError("a secret")

    async def work() -> list[httpx.Response]:
        transport = httpx.ASGITransport(
            AsgiApp(NoFunctions(), catalogue(index, lambda: KnownPaths(())))
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.get(path) for path in ("/", "/v2/health/ready")]

    for answer in asyncio.run(work()):
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"] == answer.json()["request_id"]


class NoFunctions:
    """A handler that has no path."""

    prefix = ""
    exchanges = 0

    def is_hot(self, target: bytes) -> bool:
        """None."""
        return False

    async def handle(self, request: Request) -> None:
        """No path is one of its own."""


def test_the_index_says_what_is_kept(tmp_path):
    """So that `status` can show it."""

    async def kept(served: Served) -> list[bool]:
        functions = (await served.client.get("/")).json()["functions"]
        assert [of["pinned"] for of in functions] == [of["kept"] for of in functions]
        return [of["kept"] for of in functions]

    async def work(served: Served) -> None:
        assert await kept(served) == [False]
        assert (await served.client.post(f"{MODELS}/f/pin")).status_code == 200
        assert await kept(served) == [True]
        assert (await served.client.post(f"{MODELS}/f/unload")).json()["code"] == "bad_request"
        assert (await served.client.post(f"{MODELS}/f/unpin")).status_code == 200
        assert await kept(served) == [False]

    run(serving(tmp_path, obedient("f", "kept")), work)
