"""What the handler of task routes reserves, gives back and hands on: with functions that are a table,
and requests without a transport.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from runtime.batching.calls import CallOptions
from runtime.batching.reservation import BodyReservation
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import RequestError
from runtime.execution.stages.function_stage import Outcome
from runtime.http.catalogue.task_routes import handler
from runtime.http.catalogue.task_routes.handler import LibraryTasks, TaskRoutes
from runtime.http.exchange import ClientDisconnected, Request, Response
from runtime.http.request_headers import RequestDeadline
from runtime.protocol import dumps, loads
from tests import task_stages
from tests.problems import expect_values
from tests.sleepers import Served, run, serving


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop."""
    return "asyncio"


class Functions:
    """Implements ``TaskFunctions``: one function, ``vowels``, that answers what ``outcome`` says.

    Mutable state: ``calls`` that were made, ``counted`` names; ``during``, called in each call.
    """

    def __init__(self, outcome: Callable[[str], Outcome]) -> None:
        limits = {"request_timeout_s": 25.0}
        self.spec = task_stages.declared("vowels", "embed", "embedding", limits=limits)
        self.outcome = outcome
        self.calls: list[tuple[Sequence[dict[str, Any]], CallOptions]] = []
        self.counted: list[str] = []
        self.during: Callable[[], object] = lambda: None

    def find(self, name: str) -> FunctionSpec | None:
        """See ``TaskFunctions``."""
        return self.spec if name == "vowels" else None

    def tasks(self) -> Mapping[str, str]:
        """See ``TaskFunctions``."""
        return {"vowels": "embedding"}

    def count(self, request: Request, name: str) -> None:
        """See ``TaskFunctions``."""
        self.counted.append(name)

    async def call(
        self, request: Request, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``TaskFunctions``."""
        self.calls.append((rows, options))
        self.during()
        return [self.outcome(row["text"]) for row in rows]


def embedded(text: str) -> Outcome:
    """As long as the text."""
    return {"embedding": [float(len(text))]}


class Sent(Request):
    """A request whose body is there, or whose client disconnects while it is read."""

    def __init__(self, body: bytes | None, headers: dict[bytes, bytes] | None = None) -> None:
        super().__init__("POST", "/v1/embeddings", list((headers or {}).items()))
        self.body = body

    async def _receive_body(self, *args: Any, **more: Any) -> bytes:
        raise ClientDisconnected


def body_of(texts: int, **more: Any) -> bytes:
    """A request of so many texts."""
    return dumps({"model": "vowels", "input": ["a" * 8] * texts, **more})


LARGE = body_of(1, user="x" * 300_000)
"""Read beside the event loop."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "outcome", "status"),
    [
        (body_of(3), embedded, 200),
        (LARGE, embedded, 200),
        (b"{", embedded, 400),
        (LARGE[:-1], embedded, 400),
        (body_of(3), lambda text: RequestError("no"), 400),
        (body_of(3), lambda text: {}, 500),
    ],
    ids=["small", "large", "no JSON", "large, no JSON", "a row fails", "it fails"],
)
async def test_the_bytes_of_a_request_are_given_back(anyio_backend, body, outcome, status):
    """Whatever becomes of it, and not before its answer is sent."""
    functions = Functions(outcome)
    routes, request = TaskRoutes(functions), Sent(body)
    held = list[int]()
    functions.during = lambda: held.append(routes.body_budget.held)
    response = await routes.handle(request)
    assert response is not None
    assert response.status == status
    assert all(size >= len(body) for size in held)
    assert routes.body_budget.held >= len(body)
    assert routes.exchanges == 1
    request.end()
    assert (routes.body_budget.held, routes.exchanges) == (0, 0)


@pytest.mark.anyio
async def test_a_client_that_disconnects_leaves_nothing(anyio_backend):
    """While its body is read."""
    routes, request = TaskRoutes(Functions(embedded)), Sent(None)
    with pytest.raises(ClientDisconnected):
        await routes.handle(request)
    request.end()
    assert (routes.body_budget.held, routes.exchanges) == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(("header", "most_s"), [(b"2", 2.0), (b"1e9", 25.0), (None, 25.0)])
async def test_a_functions_deadline_is_the_clients_where_it_is_shorter(
    anyio_backend, header, most_s
):
    """From the moment at which the request came."""
    functions = Functions(embedded)
    headers = {b"x-request-id": b"mine"}
    headers |= {} if header is None else {b"x-request-timeout-seconds": header}
    response = await TaskRoutes(functions).handle(Sent(body_of(1), headers))
    assert response is not None
    ((rows, options),) = functions.calls
    assert rows == [{"text": "a" * 8}]
    left_s = options.deadline - time.monotonic()
    assert left_s == pytest.approx(most_s, abs=0.5)
    assert left_s <= most_s
    assert options.request_id == "mine"
    assert functions.counted == ["vowels"]


@pytest.mark.anyio
async def test_what_a_function_makes_of_a_request_counts_with_its_body(anyio_backend):
    """In the same account."""
    functions = Functions(embedded)
    routes, request = TaskRoutes(functions), Sent(body_of(1))

    def make() -> None:
        account = functions.calls[0][1].account
        assert isinstance(account, BodyReservation)
        account.add(1000, 0)

    functions.during = make
    await routes.handle(request)
    assert routes.body_budget.held == len(body_of(1)) + 1000
    request.end()
    assert routes.body_budget.held == 0


@pytest.mark.anyio
async def test_a_request_whose_time_is_over_is_not_computed(anyio_backend):
    """504 in OpenAI's form: it came long ago, by its header."""
    functions = Functions(embedded)
    headers = {b"x-request-timeout-seconds": b"0.0000001"}
    response = await TaskRoutes(functions).handle(Sent(body_of(1), headers))
    assert response is not None
    assert (response.status, error_of(response)["type"]) == (504, "server_error")
    assert functions.calls == []
    assert functions.counted == []


TEXTS = b'{"model": "vowels", "input": [' + b'"",' * 5_000_000 + b'""]}'
"""15 MB, and 72 bytes of memory for each text, once they are read."""


@pytest.mark.anyio
async def test_json_that_takes_too_much_memory_is_not_read(anyio_backend, monkeypatch):
    """413, though the body is not too long, and before any of it is read."""
    monkeypatch.setattr(handler, "loads", lambda body: pytest.fail("it is read"))
    response = await TaskRoutes(Functions(embedded)).handle(Sent(TEXTS))
    assert response is not None
    error = error_of(response)
    assert (response.status, error["code"], error["param"]) == (413, "too_large", None)
    assert "MiB of memory" in error["message"]


@pytest.mark.anyio
async def test_the_memory_of_large_json_is_held_while_it_is_computed(anyio_backend):
    """Beside the body: others are refused in time."""
    functions = Functions(embedded)
    routes, request = TaskRoutes(functions), Sent(body_of(2048, user="x" * 300_000))
    held = list[int]()
    functions.during = lambda: held.append(routes.body_budget.held)
    await routes.handle(request)
    assert request.body is not None
    assert held[0] > len(request.body) + 2048 * 40


@pytest.mark.anyio
async def test_what_all_requests_hold_is_bounded(anyio_backend, monkeypatch):
    """429 with a time to call again, and not computed."""
    monkeypatch.setattr(handler, "BODIES_BYTES", 2 * len(body_of(1)) - 1)
    functions = Functions(embedded)
    routes, first = TaskRoutes(functions), Sent(body_of(1))
    await routes.handle(first)
    refused = await routes.handle(Sent(body_of(1)))
    assert refused is not None
    assert refused.status == 429
    assert error_of(refused)["type"] == "rate_limit_error"
    assert dict(refused.headers)[b"retry-after"] == b"1"
    assert len(functions.calls) == 1
    first.end()
    again = await routes.handle(Sent(body_of(1)))
    assert again is not None
    assert again.status == 200


@pytest.mark.anyio
async def test_a_body_is_as_long_as_it_may_be(anyio_backend, monkeypatch):
    """And not a byte longer."""
    monkeypatch.setattr(handler, "MAX_BODY_BYTES", len(body_of(1)))
    for body, status in ((body_of(1), 200), (body_of(1) + b" ", 413)):
        response = await TaskRoutes(Functions(embedded)).handle(Sent(body))
        assert response is not None
        assert response.status == status


@pytest.mark.anyio
async def test_a_large_answer_is_written_beside_the_loop_within_the_deadline(anyio_backend):
    """The loop goes on meanwhile; its deadline is the function's."""
    functions = Functions(lambda text: {"embedding": [0.5] * 40_000})
    routes = TaskRoutes(functions)
    deadlines = list[RequestDeadline]()
    offload_at_once = routes._offloader.run

    async def offload(size: int, deadline: RequestDeadline, work: Any) -> Any:
        deadlines.append(deadline)
        assert size > 16 * 40_000 or len(deadlines) == 1
        return await offload_at_once(size, deadline, work)

    routes._offloader.run = offload  # type: ignore[method-assign]
    response = await routes.handle(Sent(body_of(2)))
    assert response is not None
    assert response.status == 200
    assert [deadline.allowed_s for deadline in deadlines] == [30.0, 25.0]


def test_a_part_of_a_function_has_no_name_for_clients(tmp_path):
    """It is neither called nor listed."""
    part = task_stages.declared("chat.embed", "embed", "embedding", part_of="chat")
    whole = task_stages.declared("chat", "embed", "embedding")

    async def work(served: Served) -> None:
        tasks = LibraryTasks(served.library)
        assert tasks.find("chat.embed") is None
        assert tasks.find("chat") == whole
        assert tasks.find("none") is None
        assert tasks.tasks() == {"chat": "embedding"}

    run(serving(tmp_path, part, whole), work)


def error_of(response: Response) -> Any:
    """In OpenAI's form."""
    return loads(b"".join(response.buffers))["error"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "content_type", "values"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(99), b"application/x-www-form-urlencoded", ["PNG picture"]),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(99), b"audio/wav", ["a WAV sound"]),
        (b'--b\r\ncontent-disposition: form-data; name="file"', b"multipart/form-data", ["a form"]),
    ],
)
async def test_a_file_is_answered_with_what_the_route_takes(
    anyio_backend, body, content_type, values
):
    """In OpenAI's form, with the line to type; what is no JSON otherwise stays what it was."""
    routes = TaskRoutes(Functions(embedded))
    answer = await routes.handle(Sent(body, {b"content-type": content_type, b"host": b"h:1"}))
    assert answer is not None
    assert answer.status == 415
    message = loads(b"".join(answer.buffers))["error"]["message"]
    expect_values(message, *values, "curl http://h:1/v1/embeddings -d", '{"input": "two words"}')
    other = await routes.handle(Sent(b"{", {b"content-type": b"application/json"}))
    assert other is not None
    assert other.status == 400


def test_a_call_that_wakes_its_function_says_how_long_it_waited(tmp_path):
    """As at the function's own route; the next one has waited for nothing."""

    async def work(served: Served) -> None:
        sent = {"model": "vowels", "input": "a text"}
        told = [
            (await served.client.post("/v1/embeddings", json=sent)).headers["server-timing"]
            for _ in range(2)
        ]
        assert ["wake;dur=" in one for one in told] == [True, False]

    run(serving(tmp_path, task_stages.declared("vowels", "embed", "embedding")), work)
