"""Who answers when a function of a host calls another."""

from __future__ import annotations

import pytest

from deployments.calling import Calling
from deployments.nearest import Nearest
from runtime.batching.rows import Ask
from runtime.batching.workers import Workers
from runtime.errors import Unavailable
from runtime.library import Declared, Library
from runtime.settings import Settings
from runtime.spec import CalledSpec, FunctionSpec

pytestmark = pytest.mark.anyio


def greet(name: str) -> str:
    """A stage."""
    return f"hello {name}"


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that serves."""
    return "asyncio"


async def test_what_is_loaded_here_is_called_here_and_nothing_is_woken_here(tmp_path, anyio_backend) -> None:
    """A function that sleeps may belong to another host; one that is to be released has a deployment of its own."""
    spec = FunctionSpec.from_args("f", "/v2/models/f", {"graph": [{"stage": "s", "python": f"{__name__}:greet"}]})
    called = CalledSpec(route_prefix=spec.route_prefix, args=spec.to_args(), takes={}, gives={})
    callees = Nearest(Calling(lambda: ("127.0.0.1", 1), {"f": called}))  # nobody listens there
    workers = Workers(1)
    library = Library([Declared(spec)], Settings(root=tmp_path, models=tmp_path), workers=workers, budget_bytes=None, callees=callees)
    callees.within(library)
    rows = [{"name": "a"}, {"name": "b"}]
    try:
        with pytest.raises(Unavailable):
            await callees.call("f", rows, Ask("", 5))
        assert library.loaded("f") is None
        await library.load("f")
        assert await callees.call("f", rows, Ask("", 5)) == [{"s": "hello a"}, {"s": "hello b"}]
        library.release("f")
        with pytest.raises(Unavailable):
            await callees.call("f", rows, Ask("", 5))
    finally:
        await library.close()
        await callees.close()
        workers.close(5)
