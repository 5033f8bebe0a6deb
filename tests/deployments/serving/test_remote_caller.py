"""Functions called over HTTP: what arrives, what comes back, and what happens on the way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.serving.remote_caller import HttpFunctionCaller, RemoteFunction, read_total_s
from runtime.batching.calls import CallOptions
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec, LimitsSpec
from runtime.errors import (
    DeadlineExceeded,
    FunctionError,
    MissingInput,
    Overloaded,
    RequestError,
    Unavailable,
    WakefulError,
    WrongDatatype,
    WrongShape,
)
from runtime.http.asgi import AsgiApp
from runtime.http.exchange import AnyResponse, Request, error_response
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport.edge import EdgeGuard, GuardedHandler
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from runtime.system.telemetry.key_counts import KeyCounts
from tests.in_process import serving
from wakeful import Rows, Shape

pytestmark = pytest.mark.anyio

Image = Annotated[NDArray[np.float32], Shape(3, -1, -1)]


class Seen(TypedDict):
    """What ``look`` gives."""

    image: NDArray[np.float32]
    kinds: tuple[str, ...]
    score: np.float32
    together: int


def look(image: Image, scale: float, name: bytes, points: list[tuple[int, int]]) -> Seen:
    """A stage with values of every kind."""
    if scale < 0:
        raise RequestError("scale is below 0.", where="scale")
    return {
        "image": image * np.float32(scale),
        "kinds": (type(scale).__name__, name.decode()),
        "score": np.float32(0.1),
        "together": 1,
    }


def counted(image: Rows[Image]) -> Rows[int]:
    """How many rows came together."""
    return [len(image)] * len(image)


def blurred(image: Image) -> dict[str, Any]:
    """An answer that is a mapping by itself."""
    return {"any": "thing", "image": image}


async def slow(image: Image) -> str:
    """No caller waits for it."""
    await asyncio.sleep(2)
    return "late"


def unsendable(image: Image) -> object:
    """A value that stays in its process, for some rows."""
    return object() if image[0, 0, 0] else 1


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that serves."""
    return "asyncio", {"use_uvloop": True}


def declared(name: str, stage: Callable[..., Any], **args: Any) -> FunctionSpec:
    return FunctionSpec.from_args(
        name,
        f"/v2/models/{name}",
        {"graph": [{"stage": name, "python": f"{__name__}:{stage.__name__}"}], **args},
    )


FUNCTIONS = [
    declared("look", look),
    declared(
        "counted",
        counted,
        limits={"max_rows": 4, "max_body_bytes": 40_000},
        batching={"max_batch_size": 4},
    ),
    declared("blurred", blurred),
    declared(
        "slow",
        slow,
        limits={"max_ongoing_requests": 1, "max_queued_requests": 1},
        batching={"max_batch_size": 1},
    ),
    declared("unsendable", unsendable),
    declared("part", counted).with_deployed(part_of="whole"),
]
CALLS = {spec.name: RemoteFunction((spec.route_prefix,), spec.limits) for spec in FUNCTIONS}


@pytest.fixture
async def app(tmp_path, anyio_backend) -> AsyncIterator[AsgiApp]:
    """The functions, as a host serves them."""
    workers = Workers(1)
    library = FunctionLibrary(
        map(DeclaredFunction, FUNCTIONS),
        Settings(root=tmp_path, models=tmp_path),
        workers=workers,
        budget_bytes=None,
    )
    yield AsgiApp(LibraryHandler(library, secret=b"a secret"))
    await library.close()
    workers.close(5)


@asynccontextmanager
async def calling(
    port: int,
    calls: Mapping[str, RemoteFunction] = CALLS,
    *,
    loaded: bool = True,
    secret: bytes = b"a secret",
) -> AsyncIterator[HttpFunctionCaller]:
    """Callees behind that port."""
    callees = HttpFunctionCaller(
        lambda: ("127.0.0.1", port), calls, is_loaded=loaded, secret=secret
    )
    try:
        yield callees
    finally:
        await callees.close()


@pytest.fixture
async def callees(app) -> AsyncIterator[HttpFunctionCaller]:
    """Called over HTTP."""
    async with serving(app) as port, calling(port) as callees:
        yield callees


def row(width: int = 4, **more: Any) -> dict[str, Any]:
    image = np.arange(3 * 2 * width, dtype=np.float32).reshape(3, 2, width)
    return {"image": image, "scale": 2.0, "name": b"\xc3\xa4", "points": [(1, 2), (3, 4)], **more}


async def test_values_go_there_and_back_as_they_are(callees: HttpFunctionCaller) -> None:
    """Arrays of unlike shape, bytes, tuples and numpy's scalars, in one call."""
    rows = [row(4), row(7), row(300_000)]
    found = await callees.call("look", rows, CallOptions("id-1", time.monotonic() + 10))
    for taken, given in zip(rows, found, strict=True):
        assert isinstance(given, dict)
        assert np.array_equal(given["image"], taken["image"] * 2)
        assert given["kinds"] == ("float", "ä")
        assert type(given["score"]) is np.float32
    assert set(callees.hop_ms) == {"look"}


@pytest.mark.parametrize("secret", [b"a secret", b"another", b""])
async def test_a_part_answers_functions_of_its_cluster(app: AsgiApp, secret: bytes) -> None:
    """For others it is not there."""
    async with serving(app) as port, calling(port, secret=secret) as callees:
        pending = callees.call(
            "part", [{"image": row()["image"]}], CallOptions("", time.monotonic() + 1)
        )
        if secret == b"a secret":
            assert await pending == [{"part": 1}]
        else:
            with pytest.raises(Unavailable, match="not deployed where it was"):
                await pending


async def test_a_process_behind_the_edge_is_called_and_woken(app: AsgiApp) -> None:
    """By the secret of functions, with the name of the key that the call is made for, if there is
    one.
    """
    seen: list[str] = []

    class Keys(KeyCounts):
        def record(self, key: str, status: int) -> None:
            raise AssertionError("a function's call is counted where its cause was")

    class Seen:
        prefix, exchanges = "/", 0

        def is_hot(self, target: bytes) -> bool:
            return app.handler.is_hot(target)

        async def handle(self, request: Request) -> AnyResponse | None:
            seen.append(request.record.key)
            return await app.handler.handle(request)

    guard = EdgeGuard(b"of the edge", b"a secret")
    guarded = AsgiApp(GuardedHandler(Seen(), guard, Keys()))
    later = time.monotonic() + 10
    async with serving(guarded) as port, calling(port) as callees:
        await callees.wake("look", 10)
        assert len(await callees.call("look", [row()], CallOptions("", later))) == 1
        assert len(await callees.call("look", [row()], CallOptions("", later, key="ops"))) == 1
    assert seen == ["", "", "ops"]
    async with serving(guarded) as port, calling(port, secret=b"") as stranger:
        with pytest.raises(WakefulError, match="came past it"):
            await stranger.call("look", [row()], CallOptions("", later))
    assert len(seen) == 3


async def test_a_function_that_moves_is_found_at_either_prefix(app: AsgiApp) -> None:
    """Also where its callers are told of the other one while they run; at none it is unavailable,
    and that is no fault of the caller.
    """
    moves = replace(CALLS["look"], prefixes=("/v2/models/gone", "/v2/models/look"))
    options = CallOptions("", time.monotonic() + 10)
    async with serving(app) as port, calling(port, {"look": moves}) as callees:
        assert len(await callees.call("look", [row()], options)) == 1
        await callees.wake("look", 10)
        callees.set_prefixes({"look": ["/v2/models/gone"]})
        with pytest.raises(Unavailable, match="not deployed where it was"):
            await callees.call("look", [row()], options)
        callees.set_prefixes({"look": ["/v2/models/gone", "/v2/models/look"]})
        assert len(await callees.call("look", [row()], options)) == 1


async def test_another_function_at_the_prefix_does_not_answer_for_it(app: AsgiApp) -> None:
    """An update may have given it to that one: the call goes on to where it belongs."""
    moves = replace(CALLS["look"], prefixes=("/v2/models/counted", "/v2/models/look"))
    async with serving(app) as port, calling(port, {"look": moves}) as callees:
        (found,) = await callees.call("look", [row()], CallOptions("", time.monotonic() + 10))
        assert isinstance(found, dict)
        assert found["together"] == 1


async def test_an_answer_of_404_by_whatever_proxy_is_on_the_way_is_no_fault_of_ours() -> None:
    """It says that no function is there, in a form that is not ours."""

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>nothing here</html>"})

    async with serving(proxy) as port, calling(port) as callees:
        with pytest.raises(Unavailable, match="not deployed where it was"):
            await callees.call("look", [row()], CallOptions("", time.monotonic() + 10))


async def test_a_scalar_of_numpy_is_taken_where_a_number_is_wanted(
    callees: HttpFunctionCaller,
) -> None:
    """As in one process, where it is not converted."""
    (found,) = await callees.call(
        "look", [row(scale=np.float32(2))], CallOptions("", time.monotonic() + 10)
    )
    assert isinstance(found, dict)
    assert found["kinds"][0] == "float32"


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"scale": -1.0}, RequestError),
        ({"scale": "2"}, WrongDatatype),
        ({"image": np.zeros((3, 2, 2))}, WrongDatatype),
        ({"image": np.zeros((1, 2, 2), np.float32)}, WrongShape),
        ({"points": [[1, "2"]]}, RequestError),
    ],
)
async def test_a_bad_row_fails_alone(
    callees: HttpFunctionCaller, more: dict[str, Any], kind: type[WakefulError]
) -> None:
    """With the error that it would have here, of the same class."""
    good, bad = await callees.call(
        "look", [row(), row(**more)], CallOptions("", time.monotonic() + 10)
    )
    assert isinstance(good, dict)
    assert isinstance(bad, kind)
    assert bad.status == 400


async def test_a_missing_value_is_reported(callees: HttpFunctionCaller) -> None:
    """By its name."""
    (bad,) = await callees.call(
        "look", [{"image": row()["image"]}], CallOptions("", time.monotonic() + 10)
    )
    assert isinstance(bad, MissingInput)


async def test_an_answer_that_is_a_mapping_keeps_the_name_of_its_value(
    callees: HttpFunctionCaller,
) -> None:
    """On the wire to callers it is the answer itself; a stage takes values by their names."""
    (found,) = await callees.call(
        "blurred", [{"image": row()["image"]}], CallOptions("", time.monotonic() + 10)
    )
    assert isinstance(found, dict)
    assert list(found) == ["blurred"]
    assert found["blurred"]["any"] == "thing"


async def test_more_than_the_function_takes_is_sent_in_parts(callees: HttpFunctionCaller) -> None:
    """By rows and by bytes; the answers come back in order."""
    images = [
        np.full((3, 10, width), width, np.float32) for width in (10, 20, 30, 40, 50, 60, 70, 80, 90)
    ]
    found = await callees.call(
        "counted", [{"image": image} for image in images], CallOptions("", time.monotonic() + 10)
    )
    assert [one for one in found if not isinstance(one, dict)] == []
    assert len(found) == 9


async def test_a_function_whose_limits_were_lowered_is_given_less(app) -> None:
    """Limits change in place; a caller learns that from a refusal."""
    wider = LimitsSpec(max_rows=1024, max_body_bytes=1 << 20)
    called = RemoteFunction(("/v2/models/counted",), wider)
    async with serving(app) as port:
        callees = HttpFunctionCaller(lambda: ("127.0.0.1", port), {"counted": called})
        rows = [{"image": np.full((3, 10, 10), number, np.float32)} for number in range(9)]
        assert all(
            isinstance(one, dict)
            for one in await callees.call("counted", rows, CallOptions("", time.monotonic() + 10))
        )
        await callees.close()


async def test_a_row_that_is_too_large_by_itself_is_the_functions_fault(
    callees: HttpFunctionCaller,
) -> None:
    """Not the client's, which sent something else to another function."""
    with pytest.raises(FunctionError, match="max_body_bytes"):
        await callees.call(
            "counted",
            [{"image": np.zeros((3, 100, 100), np.float32)}],
            CallOptions("", time.monotonic() + 10),
        )


async def test_a_value_that_cannot_go_back_fails_its_row(callees: HttpFunctionCaller) -> None:
    """The others are answered."""
    zero, one = np.zeros((3, 1, 1), np.float32), np.ones((3, 1, 1), np.float32)
    good, bad = await callees.call(
        "unsendable", [{"image": zero}, {"image": one}], CallOptions("", time.monotonic() + 10)
    )
    assert good == {"unsendable": 1}
    assert isinstance(bad, FunctionError)
    assert "object" in str(bad)


async def test_the_callers_time_goes_along(callees: HttpFunctionCaller) -> None:
    """The function gives up when its caller would have; which of the two says so is as it comes."""
    began = time.monotonic()
    outcome: object
    try:
        (outcome,) = await callees.call(
            "slow", [{"image": row()["image"]}], CallOptions("", time.monotonic() + 0.3)
        )
    except DeadlineExceeded as error:
        outcome = error
    assert isinstance(outcome, DeadlineExceeded)
    assert time.monotonic() - began < 2


async def test_an_overloaded_function_says_so(callees: HttpFunctionCaller) -> None:
    """As its own 429, with the time to come again, not tried again here."""
    held = [
        asyncio.ensure_future(
            callees.call(
                "slow", [{"image": row()["image"]}], CallOptions("", time.monotonic() + 20)
            )
        )
        for _ in range(3)
    ]
    done, _ = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(Overloaded) as refused:
        done.pop().result()
    assert refused.value.retry_after_s is not None
    for one in held:
        one.cancel()
    await asyncio.gather(*held, return_exceptions=True)


@pytest.mark.slow
async def test_a_function_whose_caller_left_is_let_go(
    callees: HttpFunctionCaller, app: AsgiApp
) -> None:
    """A cancelled call ends its connection, by which the function learns of it."""
    held = asyncio.ensure_future(
        callees.call("slow", [{"image": row()["image"]}], CallOptions("", time.monotonic() + 20))
    )
    while not app.handler.exchanges:
        await asyncio.sleep(0.01)
    held.cancel()
    async with asyncio.timeout(30):
        while app.handler.exchanges:
            await asyncio.sleep(0.01)


async def test_no_listener_is_reported_soon(callees: HttpFunctionCaller) -> None:
    """After a few attempts, not at the deadline."""
    async with calling(1) as nowhere:
        with pytest.raises(Unavailable, match="look"):
            await nowhere.call("look", [row()], CallOptions("", time.monotonic() + 60))


@pytest.mark.slow
async def test_while_it_loads_a_call_waits_for_those_that_start_with_it(app) -> None:
    """A cluster starts everything at once."""
    async with serving(app) as port:
        pass
    async with calling(port, loaded=False) as callees:
        waiting = asyncio.ensure_future(callees.call("look", [row()], CallOptions()))
        await asyncio.sleep(0.5)
        async with serving(app, port):
            (found,) = await waiting
    assert isinstance(found, dict)


class Dying:
    """In front of the functions: the first calls are cut off in the middle."""

    def __init__(self, app: Any, crashes: int) -> None:
        self._app = app
        self.crashes = crashes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.crashes:
            self.crashes -= 1
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-length", b"1000")],
                }
            )
            await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
            raise ConnectionAbortedError
        await self._app(scope, receive, send)


class Refusing(Dying):
    """In front of the functions: the first calls are answered as HAProxy does when no replica is
    left.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self.crashes:
            await self._app(scope, receive, send)
            return
        self.crashes -= 1
        await error_response(Unavailable("no replica.", retry_after_s=1), "id").send_to(send)


@pytest.mark.parametrize(("crashes", "answered"), [(1, True), (2, True), (3, False)])
async def test_a_call_that_is_lost_is_sent_again(app, crashes: int, answered: bool) -> None:
    """A few times: a row that crashes every replica must come to an end."""
    async with serving(Dying(app, crashes)) as port, calling(port) as callees:
        if answered:
            (found,) = await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
            assert isinstance(found, dict)
        else:
            with pytest.raises(Unavailable):
                await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))


@pytest.mark.parametrize("front", [Dying, Refusing])
async def test_a_call_of_a_function_that_declines_it_is_not_sent_again(
    app, front: type[Dying]
) -> None:
    """Whether it was cut off, or a proxy on the way says that no replica answered: it may have
    been computed.
    """
    once = {"look": replace(CALLS["look"], limits=LimitsSpec(replay=False))}
    dying = front(app, 1)
    async with serving(dying) as port, calling(port, once) as callees:
        with pytest.raises(Unavailable):
            await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
        assert dying.crashes == 0
        (found,) = await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
        assert isinstance(found, dict)


async def test_a_call_that_no_replica_can_have_received_is_sent_again_though_its_function_declines_it(
    app,
) -> None:
    """There was no connection; and a kept one that its server has closed is not tried."""
    once = {"look": replace(CALLS["look"], limits=LimitsSpec(replay=False))}
    async with serving(app) as port:
        kept = HttpFunctionCaller(lambda: ("127.0.0.1", port), once)
        await kept.call("look", [row()], CallOptions("", time.monotonic() + 20))
    waiting = asyncio.ensure_future(
        kept.call("look", [row()], CallOptions("", time.monotonic() + 20))
    )
    await asyncio.sleep(0.05)
    async with serving(app, port):
        (found,) = await waiting
        assert isinstance(found, dict)
        await kept.close()


async def test_a_connection_that_was_closed_meanwhile_costs_no_call(app) -> None:
    """Servers end idle connections; a new one is opened, and that is no attempt."""
    async with serving(app) as port:
        kept = HttpFunctionCaller(lambda: ("127.0.0.1", port), CALLS)
        await kept.call("look", [row()], CallOptions("", time.monotonic() + 20))
    async with serving(app, port):
        (found,) = await kept.call("look", [row()], CallOptions("", time.monotonic() + 20))
        assert isinstance(found, dict)
        await kept.close()


async def test_a_controller_that_does_not_answer_takes_one_thread_however_many_calls_ask(
    app,
) -> None:
    """The others are for loads. Each call waits to its deadline, and what is answered late is of
    use to the next.
    """
    asked, may_answer = 0, threading.Event()
    async with serving(app) as port:

        def get_address() -> tuple[str, int]:
            nonlocal asked
            asked += 1
            assert may_answer.wait(30)
            return "127.0.0.1", port

        callees = HttpFunctionCaller(get_address, CALLS, secret=b"a secret")
        options = CallOptions("", time.monotonic() + 60)
        leaving = asyncio.ensure_future(callees.call("look", [row()], options))
        async with asyncio.timeout(30):
            while not asked:
                await asyncio.sleep(0.01)
        leaving.cancel()
        calls = (
            callees.call("look", [row()], CallOptions("", time.monotonic() + 0.05))
            for _ in range(20)
        )
        lost = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in lost} == {DeadlineExceeded}
        assert asked == 1
        may_answer.set()
        (found,) = await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
        assert isinstance(found, dict)
        assert asked == 1
        await callees.close()


class Addresses:
    """A controller that says where HAProxy is. It answers at once, or as ``may_answer`` lets it.

    Attributes:
        address: what it says.
        asked: how often it was.
    """

    def __init__(self, port: int) -> None:
        self.address, self.asked = ("127.0.0.1", port), 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self) -> tuple[str, int]:
        """In a thread of the caller."""
        self.asked += 1
        assert self.may_answer.wait(30)
        return self.address


@pytest.fixture
async def addresses() -> AsyncIterator[Addresses]:
    """They answer in the end."""
    found = Addresses(1)
    yield found
    found.may_answer.set()


@asynccontextmanager
async def asking(addresses: Addresses) -> AsyncIterator[HttpFunctionCaller]:
    """It calls where that says."""
    callees = HttpFunctionCaller(addresses, CALLS, secret=b"a secret")
    try:
        yield callees
    finally:
        addresses.may_answer.set()
        await callees.close()


async def test_calls_go_on_at_the_last_address_while_the_controller_does_not_answer(
    app, addresses
) -> None:
    """Connections were lost, with their server or with a replica behind it; the controller is asked
    beside the calls, once.
    """
    dying = Dying(app, 0)
    async with asking(addresses) as callees:
        async with serving(dying) as port:
            addresses.address = ("127.0.0.1", port)
            await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
            addresses.may_answer.clear()
            for _ in range(2):
                dying.crashes = 2  # on a kept connection, and on a new one
                found = await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
                assert isinstance(found[0], dict)
        async with serving(app, port):
            found = await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
            assert isinstance(found[0], dict)
            await callees.wake("look", 20)
        assert addresses.asked == 2


async def test_another_address_is_taken_once_it_is_known(app, addresses) -> None:
    """By calls, and by what waits for a function to wake."""
    async with asking(addresses) as callees, serving(app) as port:
        with pytest.raises(Unavailable):
            await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
        addresses.address = ("127.0.0.1", port)
        found = await callees.call("look", [row()], CallOptions("", time.monotonic() + 20))
        assert isinstance(found[0], dict)
    addresses.address, addresses.asked = ("127.0.0.1", 1), 0
    async with asking(addresses) as callees, serving(app) as port:
        waking = asyncio.ensure_future(callees.wake("look", 20))
        async with asyncio.timeout(30):
            while addresses.asked < 3:
                await asyncio.sleep(0.01)
        addresses.address = ("127.0.0.1", port)
        await waking


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(b"queue;dur=1.0, total;dur=2.5", 0.0025), (b"total;dur=x", None), (b"", None)],
)
def test_the_functions_own_time_is_read(header: bytes, seconds: float | None) -> None:
    """The rest is the hop."""
    assert read_total_s(header) == seconds
