"""``python -m loadtests.bounds.slow``: a thousand connections that are slow in one way or another,
held all the time, and what a good caller's calls take meanwhile, beside what they take without.

One that the server closes is opened again at once. They are held by a process of their own; so is
the caller, which calls on one connection, one call after the other. Rounds without and with them
take turns, and the medians of their 99th percentiles are compared: 2 x is the bound.

Exits 1 if a kind breaks it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click

from loadtests import declare
from loadtests.bounds.command import ROOT, declared
from loadtests.command import heading, say
from loadtests.server import free_port, local, up

MOST_SLOWER: Final = 2.0
DRIP_S: Final = 5.0
"""Between two bytes of a slow connection, and two looks whether the server has closed it."""
PAUSE_S: Final = 0.005
"""Between two calls of the good caller."""
OPEN_S: Final = 120.0
"""Longest wait until so many connections are held."""
AT_ONCE: Final = 50
"""That are opened."""
FLOATS: Final = 50_000

ANSWER: Final = b'{"s":7}'
"""Of a good call."""

_POST = b"POST /v2/models/%b HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"
_TABLE = b'{"table": [[%b]]}' % b",".join([b"0.5"] * FLOATS)


@dataclass(frozen=True)
class Kind:
    """How a connection is slow.

    Attributes:
        first: what it sends at once.
        then: the byte that it sends now and then; empty: it sends no more, and reads its answer by
            and by where it has asked.
    """

    first: bytes = b""
    then: bytes = b""


KINDS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "nothing is sent": (Kind(),),
    "heads": (Kind(_POST % b"take" + b"x-a: ", b"a"),),
    "bodies": (Kind(_POST % b"take" + b"content-length: 99999\r\n\r\n", b" "),),
    "chunks": (Kind(_POST % b"take" + b"transfer-encoding: chunked\r\n\r\n1;x=", b"a"),),
    "answers are not read": (
        Kind(_POST % b"echo" + b"content-length: %d\r\n\r\n" % len(_TABLE) + _TABLE),
    ),
}
MIXED: Final = {**KINDS, "of each a fifth": tuple(kind for (kind,) in KINDS.values())}


def hold(port: int, kinds: tuple[Kind, ...], count: int, is_held: Event, is_over: Event) -> None:
    """Hold so many connections until it is over; in a process of its own."""
    asyncio.run(_hold(port, kinds, count, is_held, is_over))


async def _hold(
    port: int, kinds: tuple[Kind, ...], count: int, is_held: Event, is_over: Event
) -> None:
    held: set[int] = set()
    opening = asyncio.Semaphore(AT_ONCE)

    async def keep(number: int) -> None:
        kind = kinds[number % len(kinds)]
        while True:
            with suppress(OSError), closing(socket.socket()) as connection:
                async with opening:
                    await _begin(connection, port, kind)
                held.add(number)
                await _drip(connection, kind)
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(keep(number)) for number in range(count)]
    while not is_over.is_set():
        if len(held) == count:
            is_held.set()
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _begin(connection: socket.socket, port: int, kind: Kind) -> None:
    """Send what comes first; what asks for an answer is computed then."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.sock_sendall(connection, kind.first)
    if kind.first and not kind.then:
        await loop.sock_recv(connection, 1)


async def _drip(connection: socket.socket, kind: Kind) -> None:
    """Until the server closes it."""
    while True:
        await asyncio.sleep(DRIP_S)
        if kind.then:
            connection.send(kind.then)
        try:
            if not connection.recv(1):
                return
        except BlockingIOError:
            pass


def p99_s(port: int, lasts_s: float) -> float:
    """Of calls for so long.

    Raises:
        RuntimeError: one was not answered rightly.
    """
    times, until = list[float](), time.perf_counter() + lasts_s
    body, headers = b'{"n": 7}', {"content-type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        while time.perf_counter() < until:
            began = time.perf_counter()
            connection.request("POST", "/v2/models/take", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            times.append(time.perf_counter() - began)
            if answer.status != 200 or said != ANSWER:
                raise RuntimeError(f"a good caller was answered {answer.status} {said[:200]!r}")
            time.sleep(PAUSE_S)
    return sorted(times)[int(len(times) * 0.99)]


@contextmanager
def held(port: int, kinds: tuple[Kind, ...], count: int) -> Iterator[None]:
    """So many connections, meanwhile.

    Raises:
        RuntimeError: there are not as many in time.
    """
    spawn = multiprocessing.get_context("spawn")
    is_held, is_over = spawn.Event(), spawn.Event()
    process = spawn.Process(target=hold, args=(port, kinds, count, is_held, is_over))
    process.start()
    try:
        if not is_held.wait(OPEN_S):
            raise RuntimeError(f"{count} connections were not held within {OPEN_S:g} s")
        yield
    finally:
        is_over.set()
        process.join(10)
        process.kill()


def measured(
    port: int, kinds: tuple[Kind, ...], count: int, lasts_s: float, rounds: int
) -> tuple[float, float]:
    """The 99th percentile without them and with, in seconds."""
    without, within = list[float](), list[float]()
    for _ in range(rounds):
        without.append(p99_s(port, lasts_s))
        with held(port, kinds, count):
            within.append(p99_s(port, lasts_s))
    return statistics.median(without), statistics.median(within)


@contextmanager
def serving(name: str) -> Iterator[int]:
    """The port of a server with functions of its own, by its name."""
    always: dict[str, Any] = {"tier": "own", "autoscaling": {"min_replicas": 1}}
    ours = [
        declared(stage, stage, **(always if name == "up" else {})) for stage in ("take", "echo")
    ]
    start: Callable[..., Any] = up if name == "up" else local
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="sl-")))
        file = folder / "serve_config.yaml"
        hosts = [declare.CATALOGUE, declare.HOST] if name == "up" else [declare.CATALOGUE]
        file.write_text(json.dumps({"applications": [*hosts, *ours]}))
        settings = {"WAKEFUL_ROOT": str(ROOT), **declare.ROOM}
        options = {"options": ("--workers", "2")} if name == "workers" else {}
        server = stack.enter_context(start(file, free_port(), folder / "log", settings, **options))
        yield server.port


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--target", "names", multiple=True, default=("run", "workers", "up"), show_default=True
)
@click.option("--count", default=1000, show_default=True, help="Connections that are held.")
@click.option("--seconds", default=5.0, show_default=True, help="How long a round calls.")
@click.option("--rounds", default=3, show_default=True, help="Without and with them.")
@click.option("--only", default="", help="Part of the names of the kinds.")
def main(names: tuple[str, ...], count: int, seconds: float, rounds: int, only: str) -> None:
    """Hold slow connections of each kind, and measure what a good caller's calls take."""
    lines = ["| served by | slow | p99 without, ms | with, ms | x |", "|---|---|---|---|---|"]
    is_broken = False
    for name in names:
        with serving(name) as port:
            for kind, connections in MIXED.items():
                if only not in kind:
                    continue
                without_s, with_s = measured(port, connections, count, seconds, rounds)
                slower = with_s / without_s
                is_broken |= slower > MOST_SLOWER
                lines.append(
                    f"| {name} | {kind} | {without_s * 1e3:.2f} | {with_s * 1e3:.2f}"
                    f" | {slower:.2f} |"
                )
                say(lines[-1])
    click.echo("\n".join([heading("python -m loadtests.bounds.slow"), "", *lines]))
    sys.exit(is_broken)


if __name__ == "__main__":
    main(prog_name="python -m loadtests.bounds.slow")
