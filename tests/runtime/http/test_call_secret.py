"""A part of a function: called by functions of its cluster, and not there for any other client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.split_stages import expand
from runtime.execution.function import Function
from runtime.http import function_routes
from runtime.http.asgi import AsgiApp
from runtime.http.exchange import Request
from runtime.http.function_handler import FunctionHandler
from runtime.http.library_handler import LibraryHandler
from runtime.http.server import library_app
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from tests import in_process

SECRET = "5" * 64

GUARDED = FunctionSpec.from_args(
    "chat",
    "/v2/models/chat",
    {
        "graph": [
            {"stage": "gate", "python": f"{__name__}:gate"},
            {"stage": "gen", "python": f"{__name__}:gen", "deployment": {"num_cpus": 1}},
        ]
    },
)


def gate(text: str) -> str:
    """Nothing evil passes."""
    return text.replace("evil", "good")


def gen(gate: str) -> str:
    """The stage that costs."""
    return f"GENERATED from {gate}"


def served(
    root: Any, make: Callable[[FunctionLibrary, Workers], Any]
) -> Callable[[Callable[[httpx.AsyncClient, FunctionLibrary], Any]], Any]:
    """Runs a test on a client of the application that ``make`` makes of the split function's
    library.
    """

    def run(test: Callable[[httpx.AsyncClient, FunctionLibrary], Any]) -> Any:
        async def main() -> None:
            workers = Workers(1)
            settings = Settings(root=root, models=root)
            library = FunctionLibrary(
                map(DeclaredFunction, expand([GUARDED])),
                settings,
                workers=workers,
                budget_bytes=None,
            )
            try:
                app = make(library, workers)
                app = await app if asyncio.iscoroutine(app) else app
                async with httpx.AsyncClient(
                    transport=httpx.ASGITransport(app),
                    base_url="http://test",
                    headers={"x-request-id": "one"},
                    timeout=60,
                ) as client:
                    await test(client, library)
            finally:
                await library.close()
                await asyncio.to_thread(workers.close, 5.0)

        asyncio.run(main())

    return run


PART = "/v2/models/chat.gen"
UNDECLARED = "/v2/models/chat.gon"
"""What is said of names that are near depends on the letters alone, so these are as near."""
WRONG = [
    {},
    {"x-wakeful-internal": ""},
    {"x-wakeful-internal": "5" * 63},
    {"x-wakeful-internal": "6" * 64},
]
ASKED = [
    ("POST", ""),
    ("POST", "/infer"),
    ("GET", ""),
    ("GET", "/ready"),
    ("POST", "/versions/1"),
    ("GET", "/nothing"),
]


def test_a_part_is_not_there_for_outsiders(tmp_path):
    """Whatever they ask, it is as with a name that is not declared, and wakes nothing; a function
    of the cluster is answered.
    """

    async def test(client: httpx.AsyncClient, library: FunctionLibrary) -> None:
        for method, route in ASKED:
            nothing = await client.request(method, f"{UNDECLARED}{route}", json={"gate": "evil"})
            for headers in WRONG:
                found = await client.request(
                    method, f"{PART}{route}", json={"gate": "evil"}, headers=headers
                )
                assert (found.status_code, found.json(), found.headers) == (
                    404,
                    nothing.json(),
                    nothing.headers,
                )
                assert "chat.gen" not in found.text
        assert "chat.gen" not in (await client.post("/v2/models/chat.gem", json={})).text
        assert library.entries.require("chat.gen").state.state == "asleep"
        answered = await client.post(
            PART, json={"gate": "x"}, headers={"x-wakeful-internal": SECRET}
        )
        assert answered.json() == {"gen": "GENERATED from x"}

    served(tmp_path, lambda library, _: AsgiApp(LibraryHandler(library, secret=SECRET.encode())))(
        test
    )


def test_a_part_in_a_deployment_of_its_own_is_not_there_either(tmp_path):
    """HAProxy sends its calls to its replica; the same holds there."""

    async def test(client: httpx.AsyncClient, library: FunctionLibrary) -> None:
        for method, route in ASKED:
            for headers in WRONG:
                found = await client.request(
                    method, f"{PART}{route}", json={"gate": "evil"}, headers=headers
                )
                assert (found.status_code, found.json()["code"]) == (404, "not_found")
                assert "chat" not in found.text
        assert (
            await client.post(PART, json={"gate": "x"}, headers={"x-wakeful-internal": SECRET})
        ).json() == {"gen": "GENERATED from x"}

    async def replica(library: FunctionLibrary, workers: Workers) -> Any:
        part = next(spec for spec in library.entries.specs.values() if spec.deployed.part_of)
        function = await Function.load(part, Settings.read({}), workers=workers)
        app = AsgiApp(FunctionHandler(function, secret=SECRET.encode()))

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "root_path": PART}, receive, send)

        return mounted

    served(tmp_path, replica)(test)


def test_the_catalogue_lists_no_part_for_clients(tmp_path):
    """Neither in the repository nor among what there is instead of an unknown path; operators see
    it at `/`.
    """

    async def test(client: httpx.AsyncClient, library: FunctionLibrary) -> None:
        assert [one["name"] for one in (await client.get("/v2/repository/index")).json()] == [
            "chat"
        ]
        assert "chat.gen" not in (await client.get("/v2/models/chat.gem")).text
        assert [one["name"] for one in (await client.get("/")).json()["functions"]] == [
            "chat.gen",
            "chat",
        ]

    served(tmp_path, lambda library, _: library_app(library))(test)


def test_a_part_is_not_there_by_a_hot_connection_either(tmp_path):
    """Though it is loaded in the one process that there is, where a call of it could be hot."""

    async def test(client: httpx.AsyncClient, library: FunctionLibrary) -> None:
        await library.load("chat.gen")
        async with (
            in_process.serving(library_app(library)) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as one,
        ):
            for _ in range(2):
                assert (await one.post(PART, json={"gate": "evil"})).status_code == 404
            assert (await one.get("/v2/models/chat.gen")).status_code == 404

    served(tmp_path, lambda library, _: library_app(library))(test)


@pytest.mark.parametrize(
    ("secret", "sent", "refused"),
    [("", "", True), ("a", "", True), ("a", "a", False), ("a", "b", True)],
)
def test_without_a_secret_no_request_has_it(secret, sent, refused):
    """And what is no split stage is for all clients."""
    part, whole = expand([GUARDED])
    request = Request("GET", "/", [(function_routes.SECRET_HEADER, sent.encode())])
    assert function_routes.is_hidden(part, request, secret.encode()) is refused
    assert not function_routes.is_hidden(whole, request, secret.encode())
