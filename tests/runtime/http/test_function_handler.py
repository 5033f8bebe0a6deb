"""What the handler of a function hands on, and what it does not begin."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import TooLarge
from runtime.execution.function import Function
from runtime.http.exchange import Request, StreamedResponse
from runtime.http.function_handler import FunctionHandler
from runtime.http.function_routes import is_short_call
from runtime.protocol import loads
from runtime.protocol.row_codec import CONTENT_TYPE, encode_rows
from runtime.settings import Settings
from tests.problems import expect_values


def double(n: int) -> int:
    """Twice as many."""
    return 2 * n


DOUBLE = f"{__name__}:double"


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop."""
    return "asyncio"


class Sent(Request):
    """A request to call; a body that is None must not be read."""

    def __init__(self, body: bytes | None, **headers: str) -> None:
        fields = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        super().__init__("POST", "/f", fields)
        self.body, self.prefix = body, "/f"

    async def _receive_body(self, *args: Any, **more: Any) -> bytes:
        raise AssertionError("the body is read")


@pytest.fixture
async def load(tmp_path: Path, anyio_backend: str) -> Any:
    """Loads a function of a stage."""
    loaded: list[Function] = []

    async def load(stage: str, **args: Any) -> Function:
        graph = [{"stage": "s", "python": stage}]
        spec = FunctionSpec.from_args("f", "/f", {"graph": graph, **args})
        settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
        loaded.append(await Function.load(spec, settings))
        return loaded[-1]

    yield load
    for function in loaded:
        await function.close(1)


@pytest.fixture
def handed_on(monkeypatch: pytest.MonkeyPatch) -> list[CallOptions]:
    """The options of each call that is run."""
    options: list[CallOptions] = []
    for name in ("run", "run_rows"):
        runs = getattr(Function, name)

        async def run(
            self: Function, rows: Sequence[Any], given: CallOptions, runs: Any = runs, **more: Any
        ) -> Any:
            options.append(given)
            return await runs(self, rows, given, **more)

        monkeypatch.setattr(Function, name, run)
    return options


@pytest.mark.anyio
async def test_a_call_whose_time_is_over_is_not_read(load, handed_on):
    """504, and nothing is run."""
    handler = FunctionHandler(await load(DOUBLE))
    long_ago = f"{(time.time() - 100) * 1e6:.0f}-1-1"
    response = await handler.handle(Sent(None, x_wakeful_call=long_ago))
    assert (response.status, response.code) == (504, "deadline_exceeded")
    assert handed_on == []


@pytest.mark.anyio
async def test_a_call_by_a_function_belongs_to_no_sequence(load, handed_on):
    """Whatever headers came along; a client's does."""
    handler = FunctionHandler(await load("tests.odd_types:add", sequences={}))
    body = b"".join(encode_rows([{"n": 1}]))
    named = {"x_sequence_id": "one", "x_sequence_start": "1"}
    await handler.handle(Sent(body, content_type=CONTENT_TYPE.decode(), **named))
    assert {options.sequence for options in handed_on} == {None}
    response = await handler.handle(Sent(b'{"n": 1}', **named))
    assert response.status == 200
    assert handed_on[-1].sequence is not None


@pytest.mark.anyio
@pytest.mark.parametrize(("to", "is_taken"), [(55, True), (56, False)])
async def test_items_that_are_answered_as_a_whole_are_bounded(load, to: int, is_taken: bool):
    """By ``limits.max_body_bytes``, the items themselves: they are held until the last."""
    handler = FunctionHandler(await load("tests.odd_types:count", limits={"max_body_bytes": 970}))
    response = await handler.handle(Sent(b'{"to": %d}' % to, accept="application/json"))
    assert isinstance(response, StreamedResponse)
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    if is_taken:
        await response.send_to(send)
        assert len(loads(b"".join(sent))) == to
    else:
        with pytest.raises(TooLarge) as refused:
            await response.send_to(send)
        assert sent == []
        expect_values(refused.value, "970")


@pytest.mark.parametrize(
    ("streams", "sequences", "are_on_disk", "targets"),
    [
        (False, None, False, (b"", b"/infer")),
        (True, None, False, ()),
        (False, object(), False, ()),
        (False, None, True, ()),
    ],
)
def test_what_needs_no_task_of_its_own(
    streams: bool, sequences: Any, are_on_disk: bool, targets: tuple[bytes, ...]
):
    """A stream does, a wait for a sequence's turn, and an answer that lies on a disk."""
    files = SimpleNamespace(are_on_disk=are_on_disk)
    function: Any = SimpleNamespace(streams=streams, sequences=sequences, files=files)
    rests = (b"", b"/infer", b"/generate", b"/ready", b"x", b"/versions/1")
    assert tuple(rest for rest in rests if is_short_call(function, rest)) == targets
