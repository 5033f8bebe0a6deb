"""Answers that stream, over real sockets: every form, every way to end, and nothing of a caller
stays behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.batching.streams.stream import BUFFER
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.http import streaming
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.http.transport.protocol import UVICORN
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from tests import in_process
from tests.streamers import PATIENCE_S, TAPS

pytestmark = pytest.mark.slow

STAGES = ("numbers", "slowly", "words", "text_output", "not_json", "blocks")
NUMBERS, SLOWLY = "/v2/models/numbers", "/v2/models/slowly"
LINES = {"accept": "application/x-ndjson"}
WHOLE = {"accept": "application/json"}


class Served:
    """A library behind uvicorn, and its client."""

    def __init__(
        self, library: FunctionLibrary, app: LibraryHandler, port: int, client: httpx.AsyncClient
    ) -> None:
        self.library = library
        self.app = app
        self.port = port
        self.client = client

    async def idle(self) -> None:
        """Waits until no call is served; whatever a client could leave is gone then."""
        await until(lambda: not self.app.exchanges)
        for name in self.library.entries.specs:
            function = self.library.entries.require(name).function
            await until(
                lambda function=function: (
                    function is None or (not function.in_flight.calls and not function.waiting_rows)
                )
            )
            assert self.library.entries.find(f"/v2/models/{name}").leases.count == 0

    async def send(self, path: str, row: Any, receive_bytes: int | None = None) -> socket.socket:
        """Begins a call on a socket of its own."""
        body = json.dumps(row).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        one = socket.socket()
        if receive_bytes is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", self.port))
        await asyncio.get_running_loop().sock_sendall(one, head.encode() + body)
        return one


async def until(holds: Callable[[], bool]) -> None:
    """Waits."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def _serving(root: Path, **args: Any) -> AsyncIterator[Served]:
    declared = [
        DeclaredFunction(
            FunctionSpec.from_args(
                stage,
                f"/v2/models/{stage}",
                {"graph": [{"stage": stage, "python": f"tests.streamers:{stage}"}], **args},
            )
        )
        for stage in STAGES
    ]
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
            yield Served(library, app, port, client)
    finally:
        await library.close()
        await asyncio.to_thread(workers.close, 5.0)


def serving(root: Path, work: Callable[[Served], Awaitable[Any]], **args: Any) -> None:
    """Does the work while they are served, asleep at first; afterwards no call may be left."""

    async def main() -> None:
        async with _serving(root, **args) as served:
            await work(served)
            await served.idle()

    asyncio.run(main())


def events(text: str) -> list[tuple[str, Any]]:
    """The events of a stream by name; the comments between them are left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            named = dict(line.split(": ", 1) for line in lines)
            found.append((named.get("event", "message"), json.loads(named["data"])))
    return found


async def read_until(response: httpx.Response, text: str) -> str:
    """What comes, until it has the text."""
    seen = ""
    async for more in response.aiter_text():
        seen += more
        if text in seen:
            return seen
    raise AssertionError(f"the stream ended without {text!r}: {seen}")


def test_a_stream_of_events(tmp_path):
    """An event an item, then that it is done; no proxy is to keep or hold it, and the head has
    the first item's time.
    """

    async def work(served: Served) -> None:
        response = await served.client.post(
            NUMBERS, json={"to": 3}, headers={"x-request-id": "abc"}
        )
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == (
            "no-cache",
            "no",
        )
        assert response.headers["x-request-id"] == "abc"
        assert "queue;dur=" in response.headers["server-timing"]
        *items, (name, data) = events(response.text)
        assert items == [("message", {"n": n, "last": n == 2}) for n in range(3)]
        assert (name, data["items"]) == ("done", 3)
        assert (
            "postprocess;dur=" in data["server_timing"]
            or "preprocess;dur=" in data["server_timing"]
        )
        nothing = await served.client.post(NUMBERS, json={"to": 0})
        assert [name for name, _ in events(nothing.text)] == ["done"]

    serving(tmp_path, work)


def test_lines_and_the_whole(tmp_path):
    """NDJSON has a line an item and nothing else; JSON is one array with its length."""

    async def work(served: Served) -> None:
        lines = await served.client.post(SLOWLY, json={"to": 3}, headers=LINES)
        assert lines.headers["content-type"] == "application/x-ndjson"
        assert lines.text == '{"slowly":0}\n{"slowly":1}\n{"slowly":2}\n'
        whole = await served.client.post("/v2/models/words", json={"text": "a b"}, headers=WHOLE)
        assert whole.headers["content-type"] == "application/json"
        assert int(whole.headers["content-length"]) == len(whole.content)
        assert "server-timing" in whole.headers
        assert whole.json() == [{"word": "a"}, {"word": "b"}]
        assert (await served.client.post(NUMBERS, json={"to": 0}, headers=WHOLE)).json() == []

    serving(tmp_path, work)


def test_items_are_sent_as_they_come(tmp_path):
    """The caller has an item while the next is not computed yet."""

    async def work(served: Served) -> None:
        tap = TAPS["as it comes"].held()
        tap.drop()
        async with served.client.stream(
            "POST", NUMBERS, json={"to": 3, "key": "as it comes"}
        ) as response:
            chunks = response.aiter_text()
            for n in range(3):
                assert events(await anext(chunks))[0] == ("message", {"n": n, "last": n == 2})
                assert tap.given == list(range(n + 1))
                tap.drop()

    serving(tmp_path, work)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code", "message"),
    [
        (NUMBERS, {"to": 3, "refuse_at": 0}, {}, 400, "bad_request", "0 is not wanted"),
        (
            NUMBERS,
            {"to": 3, "break_at": 0},
            LINES,
            500,
            "function_failed",
            "the log has the reason",
        ),
        (NUMBERS, {"to": 3, "refuse_at": 2}, WHOLE, 400, "bad_request", "2 is not wanted"),
        (NUMBERS, {"to": "x"}, {}, 400, "wrong_datatype", "integer"),
        (NUMBERS, [{"to": 1}], {}, 400, "bad_request", "send an object, and make a call for each"),
        (
            NUMBERS,
            {"to": 1},
            {"accept": "image/png"},
            406,
            "not_acceptable",
            "text/event-stream, application/x-ndjson, application/json",
        ),
        (
            f"{NUMBERS}/infer",
            {"inputs": []},
            {},
            400,
            "bad_request",
            "POST one row to its prefix, or to its /generate_stream",
        ),
        (
            NUMBERS,
            {"to": 10**9},
            {"x-request-timeout-seconds": "0.6", **WHOLE},
            504,
            "deadline_exceeded",
            "the stream was not at its end",
        ),
        (
            SLOWLY,
            {"to": 1, "pause_s": 3600},
            {"x-request-timeout-seconds": "0.6"},
            504,
            "deadline_exceeded",
            "not at its end",
        ),
        ("/v2/models/not_json", {"x": 0}, {}, 500, "function_failed", "cannot be written as JSON"),
        (f"{NUMBERS}/generate", {"to": 2}, {}, 400, "bad_request", "POST to /generate_stream"),
        (f"{NUMBERS}/generate", {"to": 0}, {}, 400, "bad_request", "there is none"),
        (f"{NUMBERS}/generate_stream", [], {}, 400, "wrong_datatype", "one JSON object"),
        (f"{NUMBERS}/generate_stream", {"to": 1, "tow": 1}, {}, 400, "unknown_input", "tow"),
    ],
)
def test_an_error_before_the_first_item_is_an_ordinary_answer(
    path, body, headers, status, code, message, tmp_path
):
    """With its status and in the error form, whatever was to be streamed."""

    async def work(served: Served) -> None:
        response = await served.client.post(path, json=body, headers=headers)
        found = response.json()
        assert (response.status_code, found["code"]) == (status, code), found
        assert message in f"{found['where']} {found['error']}"
        assert found["request_id"] == response.headers["x-request-id"]

    serving(tmp_path, work)


def test_an_error_after_the_first_item_is_in_the_stream(tmp_path):
    """Behind what came before it; nothing comes after it, and it has the request's id. It counts as
    an error, though the status was 200 by then.
    """

    async def work(served: Served) -> None:
        response = await served.client.post(NUMBERS, json={"to": 9, "refuse_at": 2})
        names = [name for name, _ in events(response.text)]
        assert names == ["message", "message", "error"]
        error = events(response.text)[-1][1]
        assert (error["code"], error["where"], error["request_id"]) == (
            "bad_request",
            "to",
            response.headers["x-request-id"],
        )
        lines = (
            await served.client.post(NUMBERS, json={"to": 9, "break_at": 1}, headers=LINES)
        ).text.splitlines()
        assert [*json.loads(lines[0])] == ["n", "last"]
        assert json.loads(lines[1])["code"] == "function_failed"
        assert "secret" not in lines[1]
        broken = events((await served.client.post("/v2/models/not_json", json={"x": 1})).text)
        assert [name for name, _ in broken] == ["message", "error"]
        await served.idle()
        counters = served.library.counters.of("numbers")
        assert (counters.calls.codes, counters.calls.errors) == (
            {200: 2},
            {"bad_request": 1, "function_failed": 1},
        )

    serving(tmp_path, work)


def test_a_deadline_after_the_first_item_is_in_the_stream(tmp_path):
    """limits.request_timeout_s bounds the whole of it, and its caller may lower it."""

    async def work(served: Served) -> None:
        tap = TAPS["late stream"].held()
        tap.drop(2)
        row = {"to": 9, "key": "late stream"}
        response = await served.client.post(
            NUMBERS, json=row, headers={"x-request-timeout-seconds": "0.3"}
        )
        assert [name for name, _ in events(response.text)] == ["message", "message", "error"]
        assert events(response.text)[-1][1]["code"] == "deadline_exceeded"
        tap.drop()  # the item that was being computed
        await tap.until_shut()
        assert tap.shut == ["closed"]

    serving(tmp_path, work)


@pytest.mark.parametrize("path", [NUMBERS, SLOWLY])
def test_a_client_that_leaves_ends_the_generator(path, tmp_path):
    """Whether it computes or sleeps, and the client has read or not."""

    async def work(served: Served) -> None:
        key = f"{path} left"
        pause = {"pause_s": 0.001} if path == SLOWLY else {}
        async with served.client.stream(
            "POST", path, json={"to": 10**9, "key": key, **pause}
        ) as response:
            await read_until(response, "\n\n")
        await TAPS[key].until_shut()
        assert TAPS[key].shut == ["closed"]

    serving(tmp_path, work)


@pytest.mark.slow
def test_a_client_that_leaves_before_the_first_item_ends_the_generator(tmp_path):
    """Nothing has been sent, and nothing more is computed."""

    async def work(served: Served) -> None:
        one = await served.send(SLOWLY, {"to": 1, "key": "left early", "pause_s": 3600})
        await until(
            lambda: (
                served.app.exchanges == 1
                and (f := served.library.entries.require("slowly").function) is not None
                and f.in_flight.calls == 1
            )
        )
        one.close()
        await TAPS["left early"].until_shut()

    serving(tmp_path, work)


@pytest.mark.slow
def test_a_client_that_does_not_read_costs_no_worker_and_is_cut_off(tmp_path, clock):
    """Its stream is parked while the sockets are full; others have the worker, and at its deadline
    it loses the connection.
    """

    async def work(served: Served) -> None:
        with contextlib.closing(
            await served.send(
                "/v2/models/blocks", {"to": 10**9, "key": "unread"}, receive_bytes=4096
            )
        ):
            tap, before = TAPS["unread"], -1
            while len(tap.given) != before:  # until nothing more goes into the sockets
                before = len(tap.given)
                for _ in range(3):
                    assert (
                        await served.client.post(NUMBERS, json={"to": BUFFER}, headers=WHOLE)
                    ).status_code == 200
                await asyncio.sleep(0.05)
            assert not tap.shut
            clock.advance(60)
            await tap.until_shut()  # by its deadline
            await until(lambda: not served.app.exchanges)
            assert len(tap.given) <= before + 2 * BUFFER

    serving(tmp_path, work, limits={"request_timeout_s": 60})


def test_a_client_that_reads_again_gets_all_of_it(tmp_path, monkeypatch):
    """Nothing is lost or doubled by having been parked; a whole answer must be read sooner."""
    monkeypatch.setattr("runtime.http.transport.peer.UNREAD_S", 0.05)

    async def work(served: Served) -> None:
        row = {"to": 300, "key": "reads again"}
        async with served.client.stream(
            "POST", "/v2/models/blocks", json=row, headers=LINES
        ) as response:
            given, before = TAPS["reads again"].given, -1
            while len(given) != before:  # parked: the sockets are full
                before = len(given)
                await asyncio.sleep(0.05)
            assert before < 300
            await asyncio.sleep(0.2)
            assert [
                int(json.loads(line)["blocks"][:8]) async for line in response.aiter_lines()
            ] == list(range(300))

    serving(tmp_path, work)


def test_a_stream_keeps_its_function_loaded(tmp_path):
    """An unload waits for its end, as for any exchange."""

    async def work(served: Served) -> None:
        tap = TAPS["keeps"].held()
        tap.drop()
        async with served.client.stream(
            "POST", NUMBERS, json={"to": 2, "key": "keeps"}
        ) as response:
            chunks = response.aiter_text()
            await anext(chunks)
            unloading = asyncio.create_task(served.library.unload("numbers"))
            await until(lambda: served.library.entries.require("numbers").state.state == "draining")
            assert not unloading.done()
            tap.drop()
            assert [name for name, _ in events("".join([text async for text in chunks]))] == [
                "message",
                "done",
            ]
        await unloading
        assert served.library.entries.require("numbers").function is None

    serving(tmp_path, work)


def test_a_server_that_ends_says_so_in_the_stream(tmp_path):
    """What it can wait for no longer is cut off with an error, and the generator is closed."""

    async def work(served: Served) -> None:
        tap = TAPS["ends"].held()
        tap.drop()
        async with served.client.stream("POST", NUMBERS, json={"to": 9, "key": "ends"}) as response:
            chunks = response.aiter_text()
            await anext(chunks)
            (serving,) = [
                task
                for task in asyncio.all_tasks()
                if "RequestResponseCycle.run_asgi" in repr(task.get_coro())
            ]
            serving.cancel()
            ((name, error),) = events("".join([text async for text in chunks]))
            assert (name, error["code"]) == ("error", "draining")
        tap.drop()
        await tap.until_shut()

    serving(tmp_path, work)


def test_a_long_silence_is_kept_alive(tmp_path, monkeypatch):
    """By comments between events, which mean nothing to a reader."""
    monkeypatch.setattr(streaming, "KEEPALIVE_S", 0.02)

    async def work(served: Served) -> None:
        tap = TAPS["silence"].held()
        tap.drop()
        async with served.client.stream(
            "POST", NUMBERS, json={"to": 2, "key": "silence"}
        ) as response:
            seen = await read_until(response, ":\n\n")
            assert events(seen) == [("message", {"n": 0, "last": False})]
            tap.drop()
            await until(lambda: len(tap.given) == 2)

    serving(tmp_path, work)


def test_the_generate_extension(tmp_path):
    """Triton's: fields at the top or among the parameters, responses with the model's name, errors
    as data, no end but the end.
    """

    async def work(served: Served) -> None:
        path = "/v2/models/text_output"
        request = {
            "text_input": "a b",
            "id": "7",
            "parameters": {"upper": True, "stream": True, "temperature": 0},
        }
        response = await served.client.post(f"{path}/generate_stream", json=request)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        head = {"model_name": "text_output", "model_version": "1", "id": "7"}
        assert events(response.text) == [
            ("message", {**head, "text_output": text}) for text in "AB"
        ]
        once = await served.client.post(f"{path}/versions/1/generate", json={"text_input": "one"})
        assert once.headers["content-type"] == "application/json"
        assert once.json() == {
            "model_name": "text_output",
            "model_version": "1",
            "text_output": "one",
        }
        failed = await served.client.post(
            f"{NUMBERS}/generate_stream", json={"to": 2, "refuse_at": 1}
        )
        assert [name for name, _ in events(failed.text)] == ["message", "message"]
        assert "1 is not wanted" in events(failed.text)[-1][1]["error"]

    serving(tmp_path, work)


def test_the_metadata_says_that_it_streams(tmp_path):
    """And no other route than it has takes a call."""

    async def work(served: Served) -> None:
        data = (await served.client.get(NUMBERS)).json()
        assert data["parameters"] == {"streams": True}
        assert [tensor["name"] for tensor in data["outputs"]] == ["n", "last"]
        assert (await served.client.get(f"{NUMBERS}/ready")).json()["ready"] is True
        assert (await served.client.get(f"{NUMBERS}/generate")).status_code == 405

    serving(tmp_path, work)
