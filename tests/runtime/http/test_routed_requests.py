"""A request is routed once: whichever handler takes it, and whether its function is in memory or has
to wake for it, the same request has the same answer, and is counted alike.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.split_stages import expand
from runtime.execution.function import Function
from runtime.http.exchange import Header, Request, Response
from runtime.http.function_handler import FunctionHandler
from runtime.http.library_handler import LibraryHandler
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.protocol.row_codec import CONTENT_TYPE, encode_rows
from runtime.settings import Settings

SECRET = b"5" * 64
LONG_AGO = b"long ago"
"""Stands for a time that no deadline reaches to."""
LIMITS = {"max_body_bytes": 4000, "max_rows": 4}


def double(n: int) -> int:
    """Twice as many."""
    return 2 * n


def measure(data: bytes) -> int:
    """How long it is."""
    return len(data)


def count(to: int) -> Iterator[int]:
    """A stream."""
    yield from range(to)


def add(n: int, total: int = 0) -> dict[str, int]:
    """A running sum."""
    return {"total": total + n}


class Broken:
    """Does not load."""

    def __init__(self) -> None:
        raise RuntimeError("broken")

    def __call__(self, n: int) -> int:
        """Never."""
        return n


def spec_of(name: str, stage: str, **args: Any) -> FunctionSpec:
    """A function of one stage of this module."""
    graph = [{"stage": "s", "python": f"{__name__}:{stage}"}]
    return FunctionSpec.from_args(name, f"/f/{name}", {"graph": graph, "limits": LIMITS, **args})


GUARDED = FunctionSpec.from_args(
    "chat",
    "/f/chat",
    {
        "graph": [
            {"stage": "gate", "python": f"{__name__}:double"},
            {"stage": "gen", "python": f"{__name__}:take", "deployment": {"num_cpus": 1}},
        ]
    },
)


def take(gate: int) -> int:
    """The stage that costs."""
    return gate


SPECS = [
    spec_of("double", "double"),
    spec_of("measure", "measure", accepts=["application/octet-stream", "image/*"]),
    spec_of("count", "count"),
    spec_of("broken", "Broken"),
    *(spec for spec in expand([GUARDED]) if spec.deployed.part_of),
]
LOADABLE = [spec.name for spec in SPECS if spec.name != "broken"]


@dataclass(frozen=True)
class Sent:
    """A request that a test makes up. ``function``: by name; ``rest``: of the path behind it."""

    function: str
    method: str
    rest: str
    query: bytes
    headers: tuple[Header, ...]
    body: bytes

    def request(self) -> Request:
        """A new one, whose body has come with its head."""
        path = f"/f/{self.function}{self.rest}"
        length = (b"content-length", b"%d" % len(self.body))
        long_ago = b"%d-1-1" % ((time.time() - 1000) * 1e6)
        sent = [(key, long_ago if value == LONG_AGO else value) for key, value in self.headers]
        headers = [(b"x-request-id", b"one"), (b"host", b"host"), length, *sent]
        request = Request(
            self.method, path, headers, raw_path=path.encode(), query=self.query, gives_id=False
        )
        request.body = self.body
        return request


RESTS = (
    *("", "/infer", "/ready", "/config", "/stats", "/generate", "/generate_stream"),
    *("/versions/1", "/versions/1/infer", "/versions/1/ready", "/versions/2", "/nothing", "/"),
)
TYPES = (
    *(b"", b"application/json", b"Application/JSON; charset=utf-8", b"application/x-ndjson"),
    *(b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"text/html"),
    *(b"application/octet-stream", b"image/png", CONTENT_TYPE),
)
ROWS = b"".join(encode_rows([{"n": 3}]))
BODIES = (
    *(b"", b"{}", b'{"n": 3}', b'{"to": 2}', b'{"gate": 2}', b'[{"n": 3}, {"n": "x"}]', b"{"),
    *(b'{"n": 3}\n{"n": 4}\n', b"n=3", b'{"data": "YQ=="}', b"\x89PNG\r\n\x1a\n0000", ROWS),
    b'--x\r\ncontent-disposition: form-data; name="n"\r\n\r\n3\r\n--x--\r\n',
    b'{"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [3]}]}',
    b" " * 4001,
)
MORE: tuple[Header, ...] = (
    *((b"content-encoding", b"gzip"), (b"content-encoding", b"br")),
    *((b"accept", b"application/x-ndjson"), (b"accept", b"image/png")),
    *((b"x-wakeful-call", LONG_AGO), (b"x-request-timeout-seconds", b"20")),
    *((b"x-wakeful-function", b"double"), (b"x-wakeful-function", b"other")),
    *((b"inference-header-content-length", b"9"), (b"inference-header-content-length", b"x")),
    *((b"x-wakeful-internal", SECRET), (b"x-wakeful-internal", b"6" * 64)),
)
METHODS = ("POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS")


def make_request(dice: random.Random, functions: list[str]) -> Sent:
    """One, with a fault or two as often as not."""
    headers: dict[bytes, bytes] = {}
    if content_type := dice.choice(TYPES):
        headers[b"content-type"] = content_type
    headers.update(dice.sample(MORE, dice.choice((0, 0, 1, 2))))
    name = dice.choice(functions)
    if name == "chat.gen" and dice.random() < 0.7:
        headers[b"x-wakeful-internal"] = SECRET
    return Sent(
        name,
        dice.choice(METHODS),
        dice.choice(RESTS) if dice.random() < 0.6 else dice.choice(("", "/infer")),
        b"a=1" if dice.random() < 0.1 else b"",
        tuple(headers.items()),
        dice.choice(BODIES),
    )


def told(text: bytes) -> bytes:
    """A text without the times in it."""
    return re.sub(rb"\d+\.\d+( s\b)", rb"0\1", re.sub(rb"dur=[\d.]+", b"dur=0", text))


Answer = dict[str, Any]


async def ask(handler: LibraryHandler | FunctionHandler, request: Request) -> Answer:
    """What comes of a request, the counts of its function included."""
    answer, record = await handler.handle(request), request.record
    found: Answer = {"answered": type(answer).__name__}
    if isinstance(answer, Response):
        timing = [told(value) for name, value in answer.headers if name == b"server-timing"]
        found |= {
            "status": answer.status,
            "code": answer.code,
            "type": answer.content_type,
            "headers": [one for one in answer.headers if one[0] != b"server-timing"],
            "is_timed": bool(timing),
            "body": told(b"".join(answer.buffers)),
        }
        record.status, record.code = answer.status, answer.code
    elif answer is not None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        try:
            await answer.send_to(send)
            record.status = sent[0]["status"]
        except Exception as error:
            found["raised"] = str(error)
        found["body"] = told(b"".join(one.get("body", b"") for one in sent))
        found["headers"] = [
            header
            for one in sent
            for header in one.get("headers", ())
            if header[0] != b"server-timing"
        ]
    found["counted"] = None if record.counters is None else record.counters.name
    found["reason"] = told(record.reason.encode())
    request.end()
    return found


@dataclass(frozen=True)
class Handlers:
    """Both handlers of the functions; of each function that loads one by itself."""

    library: FunctionLibrary
    of_library: LibraryHandler
    of_function: dict[str, FunctionHandler]

    async def ask_alone(self, sent: Sent) -> Answer:
        """The handler of the function alone, as in a replica."""
        request = sent.request()
        request.prefix = f"/f/{sent.function}"
        handler = self.of_function[sent.function]
        return await ask(handler, request)

    @property
    def held(self) -> tuple[int, ...]:
        """What is left of requests: none of it may be."""
        return (
            self.of_library.exchanges,
            self.of_library.body_budget.held,
            *(one.exchanges for one in self.of_function.values()),
            *(one.function.in_flight.calls for one in self.of_function.values()),
        )


def with_handlers(work: Callable[[Handlers], Coroutine[Any, Any, None]]) -> None:
    """Do the work."""

    async def main(root: Path) -> None:
        workers = Workers(1, spare=1)
        settings = Settings.read({"WAKEFUL_ROOT": str(root)})
        library = FunctionLibrary(
            map(DeclaredFunction, SPECS), settings, workers=workers, budget_bytes=None
        )
        functions = {
            spec.name: await Function.load(
                spec, settings, workers=workers, counters=library.counters.of(spec.name)
            )
            for spec in SPECS
            if spec.name in LOADABLE
        }
        handlers = Handlers(
            library,
            LibraryHandler(library, secret=SECRET),
            {
                name: FunctionHandler(one, secret=SECRET, statistics=nothing)
                for name, one in functions.items()
            },
        )
        # one that sleeps knows no more of what is counted than the process does
        handlers.of_library._statistics = nothing
        try:
            await work(handlers)
        finally:
            await library.close()
            for one in functions.values():
                await one.close(5)
            await asyncio.to_thread(workers.close, 5.0)

    with tempfile.TemporaryDirectory() as root:
        asyncio.run(main(Path(root)))


async def nothing(name: str) -> Any:
    """Counted of any function."""
    from runtime.system.telemetry.counters import FunctionCounters
    from runtime.system.telemetry.statistics import FunctionStatistics

    return {name: FunctionStatistics.of(FunctionCounters(name))}


def is_hidden(sent: Sent) -> bool:
    """The two handlers say in words of their own that there is no such function."""
    return sent.function == "chat.gen" and (b"x-wakeful-internal", SECRET) not in sent.headers


@pytest.mark.parametrize(
    "count", [300, pytest.param(5000, marks=pytest.mark.full)], ids=["some", "many"]
)
def test_both_handlers_answer_alike(count: int):
    """A replica's and a host's."""

    async def work(handlers: Handlers) -> None:
        dice = random.Random(22)
        alone = list(handlers.of_function)
        for name in alone:
            await handlers.library.load(name)
        for _ in range(count):
            sent = make_request(dice, alone)
            if not is_hidden(sent):
                found = await ask(handlers.of_library, sent.request())
                assert (sent, found) == (sent, await handlers.ask_alone(sent))
        assert not any(handlers.held)

    with_handlers(work)


@pytest.mark.parametrize(
    "count", [60, pytest.param(1000, marks=pytest.mark.full)], ids=["some", "many"]
)
def test_a_function_that_sleeps_answers_as_one_that_is_awake(count: int):
    """Each request finds it asleep, and wakes it or is refused."""

    async def work(handlers: Handlers) -> None:
        dice = random.Random(22)
        for _ in range(count):
            sent = make_request(dice, LOADABLE)
            if sent.rest.startswith("/generate") and sent.function != "count":
                continue  # whether it streams is not known before it is loaded
            if sent.method != "POST" and (b"x-wakeful-call", LONG_AGO) in sent.headers:
                continue  # what needs no wake needs no time
            await handlers.library.load(sent.function)
            awake = await ask(handlers.of_library, sent.request())
            await handlers.library.unload(sent.function)
            asleep = await ask(handlers.of_library, sent.request())
            for one in (awake, asleep):
                if one.get("code"):  # one that sleeps knows less of what a call of it sends
                    del one["body"], one["reason"]
            assert (sent, asleep) == (sent, awake)
        assert not any(handlers.held)

    with_handlers(work)
