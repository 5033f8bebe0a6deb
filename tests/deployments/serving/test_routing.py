"""Where the calls of a host's functions go."""

from __future__ import annotations

import time

import pytest

from deployments.serving.host import with_functions_built_from
from deployments.serving.remote_caller import HttpFunctionCaller, LocalFirstCaller, RemoteFunction
from runtime.batching.calls import CallOptions
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import CalleeSpec, FunctionSpec
from runtime.errors import Unavailable
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings

pytestmark = pytest.mark.anyio


def greet(name: str) -> str:
    """A stage."""
    return f"hello {name}"


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that serves."""
    return "asyncio"


async def test_what_is_loaded_here_is_called_here_and_nothing_is_woken_here(
    tmp_path, anyio_backend
) -> None:
    """A function that sleeps may belong to another host; one that is to be released has a
    deployment of its own.
    """
    spec = FunctionSpec.from_args(
        "f", "/v2/models/f", {"graph": [{"stage": "s", "python": f"{__name__}:greet"}]}
    )
    called = RemoteFunction((spec.route_prefix,), spec.limits)
    # no process listens there
    callees = LocalFirstCaller(HttpFunctionCaller(lambda: ("127.0.0.1", 1), {"f": called}))
    workers = Workers(1)
    library = FunctionLibrary(
        [DeclaredFunction(spec)],
        Settings(root=tmp_path, models=tmp_path),
        workers=workers,
        budget_bytes=None,
        callees=callees,
    )
    callees.attach_library(library)
    rows = [{"name": "a"}, {"name": "b"}]
    try:
        with pytest.raises(Unavailable):
            await callees.call("f", rows, CallOptions("", time.monotonic() + 5))
        assert library.entries.require("f").function is None
        await library.load("f")
        assert await callees.call("f", rows, CallOptions("", time.monotonic() + 5)) == [
            {"s": "hello a"},
            {"s": "hello b"},
        ]
        library.unload_when_idle("f")
        with pytest.raises(Unavailable):
            await callees.call("f", rows, CallOptions("", time.monotonic() + 5))
    finally:
        await library.close()
        await callees.close()
        workers.close(5)


async def test_a_new_host_loads_first_what_others_are_built_from(anyio_backend) -> None:
    """Callees before callers, those alone that the host has and that are called at the load."""

    def spec(name: str, **callees: bool) -> FunctionSpec:
        known = {
            callee: CalleeSpec(
                route_prefix=f"/{callee}", digest="", takes={}, gives={}, at_load=at_load
            )
            for callee, at_load in callees.items()
        }
        graph = [{"stage": "s", "python": f"{__name__}:greet"}]
        found = FunctionSpec.from_args(name, f"/{name}", {"graph": graph})
        return found.with_deployed(calls=known)

    specs = {
        "search": spec("search", index=True, rank=False, elsewhere=True),
        "index": spec("index", embed=True),
        "embed": spec("embed"),
        "rank": spec("rank"),
    }
    assert with_functions_built_from(["search", "embed", "gone"], specs) == (
        "embed",
        "index",
        "search",
        "gone",
    )


async def test_what_is_loaded_here_is_held_here(tmp_path, anyio_backend) -> None:
    """Until the block ends; what sleeps is woken where it belongs."""
    spec = FunctionSpec.from_args(
        "f", "/v2/models/f", {"graph": [{"stage": "s", "python": f"{__name__}:greet"}]}
    )
    woken: list[str] = []

    class Http(HttpFunctionCaller):
        async def wake(self, name: str, timeout_s: float) -> None:
            woken.append(name)

    callees = LocalFirstCaller(Http(lambda: ("127.0.0.1", 1)))
    workers = Workers(1)
    library = FunctionLibrary(
        [DeclaredFunction(spec)],
        Settings(root=tmp_path, models=tmp_path),
        workers=workers,
        budget_bytes=None,
        callees=callees,
    )
    callees.attach_library(library)
    try:
        async with callees.hold("f"):
            assert woken == ["f"]
        await library.load("f")
        async with callees.hold("f"):
            entry = library.entries.find("/v2/models/f")
            assert entry is not None
            assert entry.leases.count == 1
        assert (entry.leases.count, woken) == (0, ["f"])
    finally:
        await library.close()
        await callees.close()
        workers.close(5)
