"""What a stage gets of a function that it calls: the same in one process as over HTTP, row by row
of one table.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import math
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Any, NotRequired, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from deployments.serving.remote_caller import HttpFunctionCaller, RemoteFunction
from runtime.batching.calls import Call
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import (
    DeadlineExceeded,
    Draining,
    FunctionError,
    MissingInput,
    Unavailable,
    WakefulError,
    WrongDatatype,
)
from runtime.execution.stages.function_stage import FunctionCaller, FunctionStage, Outcome
from runtime.graph.graph import OMITTED
from runtime.http.asgi import AsgiApp
from runtime.http.library_handler import LibraryHandler
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.library.local_calls import LocalFunctionCaller
from runtime.settings import Settings
from runtime.system.telemetry.trace import CallTrace, make_sampler
from tests.in_process import serving
from wakeful import RequestError, RequestId, Rows, UpstreamError

pytestmark = pytest.mark.anyio


class Colour(Enum):
    RED = "red"


@dataclass
class Box:
    left: int
    day: datetime.date


class Page(BaseModel):
    title: str
    boxes: list[Box]


class Item(TypedDict):
    name: str
    day: datetime.date
    raw: bytes
    box: Box


class Note(TypedDict):
    text: str
    remark: NotRequired[str]


RAN: list[str] = []
"""The calls of ``counts``, by their ids."""


def note(text: str, times: int = 2, at: datetime.date = datetime.date(2024, 5, 6)) -> Note:
    """Fields with defaults, one of which JSON cannot say; an answer that may be without a key."""
    if text == "refused":
        raise RequestError("it is refused.", where="text", status=422)
    if text == "upstream":
        raise UpstreamError("the price list does not answer.")
    if text == "broken":
        raise ValueError("a secret")
    return (
        {"text": f"{text * times} {at}"} if text != "remarked" else {"text": text, "remark": "yes"}
    )


def together(text: Rows[str]) -> Rows[int]:
    """How many rows came together."""
    return [len(text)] * len(text)


async def slow(text: str) -> str:
    """Comes too late."""
    await asyncio.sleep(2)
    return text


def counts(text: str, request: RequestId) -> str:
    """Counts its calls."""
    RAN.append(request)
    return request


def anything(value: Any) -> Any:
    """Gives a plain value."""
    return 1


def unspoken(value: int) -> Any:
    """Gives what has no form, for some rows."""
    return object() if value else value


KINDS: dict[str, tuple[Any, Any]] = {
    "text": (str, "ä\U0001f600"),
    "none": (int | None, None),
    "bytes": (bytes, b"\x00\xff"),
    "nan": (float, math.nan),
    "numbers": (list[float], [1.0, math.inf]),
    "pair": (tuple[int, str], (1, "a")),
    "array": (NDArray[np.float32], np.arange(6, dtype=np.float32).reshape(2, 3)),
    "texts": (NDArray[np.str_], np.array(["a", "ä"], object)),
    "scalar": (np.float32, np.float32(0.1)),
    "arrays": (list[NDArray[np.int64]], [np.arange(2), np.arange(3)]),
    "mapping": (dict[str, list[int]], {"a": [1], "b": []}),
    "date": (datetime.date, datetime.date(2024, 5, 6)),
    "moment": (datetime.datetime, datetime.datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=datetime.UTC)),
    "time": (datetime.time, datetime.time(7, 8, 9)),
    "duration": (datetime.timedelta, datetime.timedelta(days=-1, microseconds=7)),
    "uuid": (uuid.UUID, uuid.UUID(int=7)),
    "decimal": (decimal.Decimal, decimal.Decimal("1.10")),
    "set": (set[int], {1, 2}),
    "dates": (list[datetime.date], [datetime.date(2024, 5, 6)]),
    "colour": (Colour, Colour.RED),
    "box": (Box, Box(1, datetime.date(2024, 5, 6))),
    "boxes": (list[Box], [Box(1, datetime.date(2024, 5, 6))]),
    "page": (Page, Page(title="t", boxes=[Box(1, datetime.date(2024, 5, 6))])),
    "items": (
        list[Item],
        [
            {
                "name": "n",
                "day": datetime.date(2024, 5, 6),
                "raw": b"\xff",
                "box": Box(1, datetime.date(2024, 5, 6)),
            }
        ],
    ),
    "numbered": (dict[int, str], {1: "a"}),
}
"""By name: an annotation, and a value of it."""

BOX = {"left": 1, "day": "2024-05-06"}
GIVEN = {
    "set": [1, 2],
    "colour": "red",
    "box": BOX,
    "boxes": [BOX],
    "page": {"title": "t", "boxes": [BOX]},
    "items": [{"name": "n", "day": datetime.date(2024, 5, 6), "raw": b"\xff", "box": BOX}],
    "numbered": {"1": "a"},
}
"""What comes back, where it is not the value itself: of a class of the author's, what JSON says of
it.
"""


def _echo(name: str, annotation: Any) -> FunctionSpec:
    def echo(value: Any) -> Any:
        RAN.append(f"{name}: {type(value).__name__}")
        return value

    echo.__annotations__ = {"value": annotation, "return": annotation}
    globals()[f"echo_{name}"] = echo
    return _declared(name, f"echo_{name}")


def _declared(name: str, stage: str, **args: Any) -> FunctionSpec:
    return FunctionSpec.from_args(
        name,
        f"/v2/models/{name}",
        {"graph": [{"stage": name, "python": f"{__name__}:{stage}"}], **args},
    )


FUNCTIONS = [
    _declared("note", "note", limits={"max_rows": 4}),
    _declared(
        "together",
        "together",
        limits={"max_rows": 4, "max_body_bytes": 100_000},
        batching={"max_batch_size": 4},
    ),
    _declared("slow", "slow"),
    _declared("counts", "counts", limits={"replay": False}),
    _declared("anything", "anything"),
    _declared("unspoken", "unspoken"),
    *(_echo(name, annotation) for name, (annotation, _) in KINDS.items()),
]
GONE = _declared("gone", "note")
CALLS = {
    spec.name: RemoteFunction((spec.route_prefix,), spec.limits) for spec in (*FUNCTIONS, GONE)
}


class Front:
    """Before the functions that are called over HTTP. With ``loses`` the function answers, and the
    answer is lost on its way.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.loses = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self.loses:
            await self._app(scope, receive, send)
            return

        async def drop(message: Any) -> None:
            """Sends nothing."""

        await self._app(scope, receive, drop)
        raise ConnectionAbortedError


@dataclass
class Carrier:
    """A way to the functions of a library; ``front`` is before them where they are called over
    HTTP.
    """

    callees: FunctionCaller
    library: FunctionLibrary
    front: Front

    async def ask(
        self,
        name: str,
        *rows: dict[str, Any],
        timeout_s: float = 10.0,
        trace: CallTrace | None = None,
    ) -> list[Outcome]:
        """Rows through a stage that calls the function: for each what the function gives by its
        names, or the row's error.
        """
        fields = {field for row in rows for field in row}
        gives = {"text": "said", "remark": "remark"} if name in ("note", "gone") else {name: "said"}
        defaults = dict.fromkeys(fields, OMITTED)
        stage = FunctionStage(
            "stage",
            name,
            self.callees,
            {f: f for f in fields},
            gives,
            defaults=defaults,
            lacking=("remark",),
        )
        now = time.monotonic()
        call = Call(list(rows), request_id="id-1", now=now, deadline=now + timeout_s)
        call.trace = trace
        await stage.run_on_loop(call.rows)
        return [
            row.error or {name: row.values[name] for name in gives.values() if name in row.values}
            for row in call.rows
        ]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that serves."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(params=["in process", "over HTTP"])
async def carrier(request, tmp_path, anyio_backend) -> AsyncIterator[Carrier]:
    """Both ways, to functions of the same library."""
    RAN.clear()
    workers = Workers(1)
    library = FunctionLibrary(
        map(DeclaredFunction, FUNCTIONS),
        Settings(root=tmp_path, models=tmp_path),
        workers=workers,
        budget_bytes=None,
    )
    front = Front(AsgiApp(LibraryHandler(library)))
    async with AsyncExitStack() as stack:
        callees: FunctionCaller = LocalFunctionCaller(library)
        if request.param == "over HTTP":
            port = await stack.enter_async_context(serving(front))
            callees = HttpFunctionCaller(lambda: ("127.0.0.1", port), CALLS)
        stack.push_async_callback(callees.close)
        yield Carrier(callees, library, front)
    await library.close()
    workers.close(5)


def error_of(outcome: Outcome) -> tuple[type[WakefulError], int, str, str]:
    """The message of an error, and its kind."""
    assert isinstance(outcome, WakefulError)
    kinds = (MissingInput, WrongDatatype, FunctionError, UpstreamError, RequestError, WakefulError)
    return (
        next(kind for kind in kinds if isinstance(outcome, kind)),
        outcome.status,
        outcome.where,
        outcome.message,
    )


async def test_defaults_and_outputs_that_are_left_out(carrier: Carrier) -> None:
    """The function fills in its defaults, also one that JSON cannot say; a key that it did not give
    is not there.
    """
    assert await carrier.ask(
        "note", {"text": "a"}, {"text": "b", "times": 1}, {"text": "remarked"}
    ) == [
        {"said": "aa 2024-05-06"},
        {"said": "b 2024-05-06"},
        {"said": "remarked", "remark": "yes"},
    ]


async def test_a_trace_goes_on_in_the_called_function(carrier: Carrier) -> None:
    """The call is a part of its caller's time. In the process the function's parts are in it; over
    HTTP the function has a span of its own, whose parent it is.
    """
    arrived: list[CallTrace] = []

    def begin(fields: Mapping[bytes, bytes]) -> CallTrace:
        arrived.append(CallTrace.begin(fields, make_sampler("parentbased_always_on", "")))
        return arrived[-1]

    carrier.library.counters.tell(lambda name, answered: None, begin)
    trace = CallTrace(7, 8, 0, is_sampled=True)
    await carrier.ask("note", {"text": "a"}, trace=trace)
    (part,) = trace.parts
    assert (part.kind, part.name) == ("hop", "note")
    hop = part.hop
    assert hop is not None
    assert (hop.trace_id, hop.parent_id) == (7, 8)
    kinds = [one.kind for one in (arrived[0] if arrived else hop).parts]
    assert {"queue", "batch", "stage"} == set(kinds)
    assert [(one.trace_id, one.parent_id, one.is_sampled) for one in arrived] in (
        [],
        [(7, hop.span_id, True)],
    )
    assert bool(arrived) is isinstance(carrier.callees, HttpFunctionCaller)


async def test_the_error_of_a_row_is_its_own(carrier: Carrier) -> None:
    """A refusal, an upstream, a failure and a wrong value: of the same class, status, place and
    message; the neighbour is answered.
    """
    fine, *failed = await carrier.ask(
        "note", {"text": "a"}, {"text": "refused"}, {"text": "upstream"}, {"text": "broken"}
    )
    assert fine == {"said": "aa 2024-05-06"}
    assert [error_of(one) for one in failed] == [
        (RequestError, 422, "text", "it is refused."),
        (UpstreamError, 502, "", "the price list does not answer."),
        (
            FunctionError,
            500,
            "",
            "stage 'note' failed on this row; the log has the reason under the request id.",
        ),
    ]
    wrong, missing = await carrier.ask("note", {"text": 1}, {"times": 1})
    assert error_of(wrong) == (WrongDatatype, 400, "[0].text", "Input should be a valid string.")
    assert error_of(missing)[:3] == (MissingInput, 400, "[1].text")


async def test_more_rows_than_the_function_takes_go_in_parts(carrier: Carrier) -> None:
    """No part has more than four; the answers come back in order, an error at its row."""
    together = await carrier.ask("together", *[{"text": f"{number}"} for number in range(9)])
    assert all(isinstance(one, dict) and one["said"] <= 4 for one in together)
    notes = await carrier.ask(
        "note",
        *[{"text": "refused" if number == 7 else f"{number}", "times": 1} for number in range(9)],
    )
    assert [one["said"][0] if isinstance(one, dict) else one.status for one in notes] == [
        *"0123456",
        422,
        "8",
    ]


async def test_a_row_that_is_too_large_by_itself_fails_alone(carrier: Carrier) -> None:
    """It is the fault of the function that calls, of which its client knows nothing; the others are
    answered.
    """
    fine, large = await carrier.ask("together", {"text": "a"}, {"text": "a" * 200_000})
    assert isinstance(fine, dict)
    assert error_of(large)[:2] == (FunctionError, 500)
    assert "limits.max_body_bytes" in error_of(large)[3]


async def test_the_deadline_of_the_caller_holds(carrier: Carrier) -> None:
    """Within a call, and where it is over before the call begins."""
    for timeout_s in (0.1, -1.0):
        (late,) = await carrier.ask("slow", {"text": "a"}, timeout_s=timeout_s)
        assert isinstance(late, DeadlineExceeded)


async def test_a_function_that_is_not_deployed_is_no_fault_of_the_client(carrier: Carrier) -> None:
    """All rows may be sent again."""
    gone = await carrier.ask("gone", {"text": "a"}, {"text": "b"})
    assert [(type(one), getattr(one, "retry_after_s", None)) for one in gone] == [
        (Unavailable, 1)
    ] * 2
    assert all("not deployed where it was" in error_of(one)[3] for one in gone)


async def test_a_function_that_drains_refuses(carrier: Carrier) -> None:
    """All rows, by its own error."""
    await carrier.library.close()
    drained = await carrier.ask("note", {"text": "a"}, {"text": "b"})
    assert [type(one) for one in drained] == [Draining] * 2


async def test_a_function_that_declines_replay_computes_a_call_once(carrier: Carrier) -> None:
    """Also where its answer was lost. The call has the request's id."""
    carrier.front.loses = True
    await carrier.ask("counts", {"text": "a"})
    assert RAN == ["id-1"]


async def test_values_of_every_kind_go_there_and_back(carrier: Carrier) -> None:
    """The function gets what its annotation says; what comes back is the value, or what JSON says
    of a class of the author's.
    """
    for name, (_, value) in KINDS.items():
        (found,) = await carrier.ask(name, {"value": value})
        assert isinstance(found, dict), (name, found)
        assert_alike(found["said"], GIVEN.get(name, value))
    assert [f"{name}: {type(value).__name__}" for name, (_, value) in KINDS.items()] == RAN


async def test_a_value_that_has_no_form_fails_its_row(carrier: Carrier) -> None:
    """One that is sent, one that is given; the others are answered."""
    fine, sent, large = await carrier.ask(
        "anything", {"value": 1}, {"value": object()}, {"value": np.zeros(2, np.complex64)}
    )
    assert fine == {"said": 1}
    for one in (sent, large):
        assert isinstance(one, FunctionError)
        assert one.message.startswith("value is a")
    given, kept = await carrier.ask("unspoken", {"value": 0}, {"value": 1})
    assert given == {"said": 0}
    assert isinstance(kept, FunctionError)
    assert kept.message.startswith("unspoken is a object, which cannot go to another function.")


def assert_alike(found: Any, wanted: Any) -> None:
    """Equal, of the same type, arrays of the same datatype and shape."""
    assert type(found) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert np.array_equal(found, wanted)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_alike(one, other)
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_alike(found[key], wanted[key])
    else:
        assert found == wanted or (found != found and wanted != wanted)
