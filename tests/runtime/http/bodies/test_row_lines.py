"""Rows answered with a line each, as they are done: the same lines as all at once, over every
transport, and one for each row however the call ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

import httpx
import pytest

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.http.asgi import AsgiApp
from runtime.http.bodies import row_lines
from runtime.http.bodies.row_lines import pieces
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport.protocol import UVICORN
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from tests import in_process
from wakeful import RequestError, Rows, State

HERE = __name__
PATIENCE_S = 30.0
GATE = threading.Semaphore(0)
RAN: list[int] = []
LINES = {"accept": "application/x-ndjson"}
PREFIX = "/v2/models"


def hold(x: Rows[int]) -> Rows[int]:
    """Twice that, a batch for each row; 1000 and more wait for the gate, and 13 is refused."""
    (one,) = x
    if one >= 1000:
        assert GATE.acquire(timeout=PATIENCE_S)
    if one == 13:
        raise RequestError("no thirteens.", where="x", status=422)
    RAN.append(one)
    return [2 * one]


async def long(x: int) -> str:
    """64 KiB, a few a moment."""
    await asyncio.sleep(0.0005 * x)
    return "a" * (64 << 10)


class Total(TypedDict):
    """Of a sequence so far."""

    so_far: int
    all: int


def total(x: int, so_far: State[int]) -> Total:
    """Adds up."""
    return {"so_far": (so_far or 0) + x, "all": (so_far or 0) + x}


@asynccontextmanager
async def _serving(root: Path) -> AsyncIterator[tuple[httpx.AsyncClient, LibraryHandler, int]]:
    declared = [
        DeclaredFunction(
            FunctionSpec.from_args(
                name,
                f"{PREFIX}/{name}",
                {"graph": [{"stage": name, "python": f"{HERE}:{name}"}], **args},
            )
        )
        for name, args in (
            ("long", {}),
            ("hold", {"batching": {"max_batch_size": 1}}),
            ("total", {"sequences": {}}),
        )
    ]
    while GATE.acquire(blocking=False):  # that a test before left open
        pass
    workers = Workers(1)
    library = FunctionLibrary(
        declared, Settings.read({"WAKEFUL_ROOT": str(root)}), workers=workers, budget_bytes=None
    )
    app = LibraryHandler(library)
    try:
        async with (
            in_process.serving(AsgiApp(app), **UVICORN, access_log=False) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
        ):
            yield client, app, port
    finally:
        await library.close()
        await asyncio.to_thread(workers.close, 5.0)


Work = Callable[[httpx.AsyncClient, LibraryHandler], Awaitable[Any]]


def serving(root: Path, work: Work) -> Any:
    """Does the work; afterwards no call may be left."""

    async def main() -> Any:
        async with _serving(root) as (client, app, _):
            assert (await client.post(f"{PREFIX}/hold", json={"x": 1})).status_code == 200
            found = await work(client, app)
            async with asyncio.timeout(PATIENCE_S):
                while app.exchanges or app.body_budget.held:
                    await asyncio.sleep(0.001)
            return found

    return asyncio.run(main())


async def lines_of(response: httpx.Response) -> AsyncIterator[Any]:
    """Each line, as it comes."""
    async for line in response.aiter_lines():
        yield json.loads(line)


def rows(*numbers: int) -> bytes:
    """As lines."""
    return b"".join(b'{"x": %d}\n' % number for number in numbers)


SENT = {"content-type": "application/x-ndjson", **LINES}


@pytest.mark.slow
@pytest.mark.parametrize("as_array", [True, False])
def test_a_row_is_sent_while_later_ones_are_computed(tmp_path: Path, *, as_array: bool) -> None:
    """On a new connection and on one that has served a call; a refused row has its line."""

    async def work(hot: httpx.AsyncClient, app: LibraryHandler) -> None:
        fresh = httpx.AsyncClient(base_url=hot.base_url, timeout=PATIENCE_S)
        for client in (hot, fresh, hot):
            numbers = [1, 13, 2, 1000, 3, 1001, 4]
            body = rows(*numbers[:2]) + b"{\n" + rows(*numbers[2:])
            kind = SENT
            if as_array:
                body = json.dumps([{"x": n} if n else 7 for n in [1, 13, 0, *numbers[2:]]]).encode()
                kind = {"content-type": "application/json", **LINES}
            async with client.stream("POST", f"{PREFIX}/hold", content=body, headers=kind) as got:
                assert got.headers["content-type"] == "application/x-ndjson"
                assert got.headers["x-accel-buffering"] == "no"
                assert "content-length" not in got.headers
                lines = lines_of(got)
                assert await anext(lines) == {"hold": 2}
                refused = await anext(lines)
                assert (refused["status"], refused["where"]) == (422, "x")
                assert (await anext(lines))["status"] == 400
                assert await anext(lines) == {"hold": 4}
                GATE.release()
                assert [await anext(lines) for _ in range(2)] == [{"hold": 2000}, {"hold": 6}]
                GATE.release()
                assert [line async for line in lines] == [{"hold": 2002}, {"hold": 8}]
        await fresh.aclose()

    serving(tmp_path, work)


@pytest.mark.slow
def test_what_is_soon_done_is_answered_whole(tmp_path: Path) -> None:
    """With its length, as before; so is a single row."""

    async def work(client: httpx.AsyncClient, app: LibraryHandler) -> None:
        for numbers in ([5], [5, 6, 13], [13, 13]):
            got = await client.post(f"{PREFIX}/hold", content=rows(*numbers), headers=SENT)
            assert int(got.headers["content-length"]) == len(got.content)
            assert len(got.content.splitlines()) == len(numbers)
        assert json.loads(got.content.splitlines()[0])["status"] == 422

    serving(tmp_path, work)


@pytest.mark.slow
@pytest.mark.parametrize("done", [0, 1])
def test_a_deadline_is_a_status_before_the_first_row_and_a_line_behind_it(
    tmp_path: Path, done: int
) -> None:
    """A line for each row that it left undone."""

    async def work(client: httpx.AsyncClient, app: LibraryHandler) -> None:
        body = rows(*[1] * done, 1000, 2, 3)
        sent = {**SENT, "x-request-timeout-seconds": "0.3"}
        got = await client.post(f"{PREFIX}/hold", content=body, headers=sent)
        GATE.release()
        if not done:
            assert got.status_code == 504
            return
        assert got.status_code == 200
        first, *others = map(json.loads, got.content.splitlines())
        assert first == {"hold": 2}
        assert [one["code"] for one in others] == ["deadline_exceeded"] * 3

    serving(tmp_path, work)


@pytest.mark.slow
def test_a_call_that_is_refused_is_a_status(tmp_path: Path) -> None:
    """Too many rows, and a sequence that has more than one."""

    async def work(client: httpx.AsyncClient, app: LibraryHandler) -> None:
        got = await client.post(f"{PREFIX}/hold", content=rows(*[1] * 1025), headers=SENT)
        assert got.status_code == 413
        got = await client.post(
            f"{PREFIX}/total",
            content=rows(1, 2),
            headers={**SENT, "x-sequence-id": "s", "x-sequence-start": "true"},
        )
        assert got.status_code == 400

    serving(tmp_path, work)


@pytest.mark.slow
@pytest.mark.parametrize("is_hot", [False, True])
def test_a_client_that_leaves_ends_the_call(tmp_path: Path, *, is_hot: bool) -> None:
    """What of it has not begun is not computed."""

    async def work(client: httpx.AsyncClient, app: LibraryHandler) -> None:
        if not is_hot:
            await client.aclose()
        RAN.clear()
        fresh = client if is_hot else httpx.AsyncClient(base_url=client.base_url)
        body = rows(1, *range(1000, 1500))
        async with fresh.stream("POST", f"{PREFIX}/hold", content=body, headers=SENT) as got:
            assert await anext(lines_of(got)) == {"hold": 2}
        async with asyncio.timeout(PATIENCE_S):
            while app.exchanges:  # what is written meanwhile finds no client
                GATE.release()
                await asyncio.sleep(0.02)
        GATE.release()
        await fresh.aclose()
        assert 1499 not in RAN

    serving(tmp_path, work)


@pytest.mark.slow
@pytest.mark.parametrize("is_hot", [False, True])
def test_a_client_that_does_not_read_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_hot: bool
) -> None:
    """Soon after the call's deadline, with what it holds let go."""
    monkeypatch.setattr(row_lines, "UNREAD_TIMEOUT_S", 0.1)

    async def main() -> None:
        async with _serving(tmp_path) as (client, app, port):
            assert (await client.post(f"{PREFIX}/long", json={"x": 1})).status_code == 200
            loop = asyncio.get_running_loop()
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.setblocking(False)
                await loop.sock_connect(one, ("127.0.0.1", port))
                if is_hot:
                    head = f"GET {PREFIX}/long/ready HTTP/1.1\r\nhost: t\r\n\r\n"
                    await loop.sock_sendall(one, head.encode())
                    assert await loop.sock_recv(one, 4096)
                body = rows(*range(200))
                head = (
                    f"POST {PREFIX}/long HTTP/1.1\r\nhost: t\r\n"
                    "accept: application/x-ndjson\r\ncontent-type: application/x-ndjson\r\n"
                    "x-request-timeout-seconds: 1\r\n"
                    f"content-length: {len(body)}\r\n\r\n"
                )
                await loop.sock_sendall(one, head.encode() + body)
                async with asyncio.timeout(PATIENCE_S):
                    while not app.exchanges:
                        await asyncio.sleep(0.001)
                    while app.exchanges or app.body_budget.held:
                        await asyncio.sleep(0.01)
                received = b""
                with contextlib.suppress(ConnectionError):
                    while more := await loop.sock_recv(one, 1 << 20):
                        received += more
                assert b"transfer-encoding: chunked" in received
                assert not received.endswith(b"0\r\n\r\n")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("count", "values", "parts"),
    [(0, 1, []), (1, 1, [1]), (10, 1, [10]), (1000, 100, None), (3, 1 << 17, [1, 1, 1])],
)
def test_what_is_written_at_once_is_bounded(count: int, values: int, parts: Any) -> None:
    """By what takes a millisecond or two; none is left out."""
    outcomes = [{"x": [0] * values} for _ in range(count)]
    found = [len(piece) for piece in pieces(outcomes)]
    assert sum(found) == count
    assert parts is None or found == parts
    assert parts is not None or 1 < len(found) < 20


def test_looks_are_a_few_a_second() -> None:
    """More while rows come than while they do not."""
    assert 0.005 <= row_lines.FLUSH_S < row_lines.IDLE_FLUSH_S <= 0.2
