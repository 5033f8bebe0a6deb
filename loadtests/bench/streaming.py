"""What a streamed answer costs: ``python -m loadtests.bench.streaming``.

The server is `wakeful run`; the bare side is Starlette's ``StreamingResponse`` over the same generator, in alternating rounds. A stream
that does not end with its last item and ``event: done`` makes a number void.

- *Items a second*: of one caller and of eight, items that cost nothing.
- *First item*: time to it, against the whole of an ordinary answer; and beside eight streams that keep the workers busy.
- *Unread*: what a call of another function costs the server, with and without eight callers who began a stream and do not read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import orjson

from loadtests.bench import bare_streams, machine, report
from loadtests.bench.children import Child, ended_in_order, module, poll
from loadtests.bench.figures import Number, Target, percentile
from loadtests.bench.listening import processor_s
from loadtests.bench.serving import HOST, FirstCall, Server, free_port, local
from loadtests.http1 import Connection

DRIP: Final = "/v2/models/drip"
FLOOD: Final = "/v2/models/flood"
ONCE: Final = "/v2/models/once"
ITEMS: Final = 2000
BUSY_US: Final = 1000
LIMIT_S: Final = 600.0
START_S: Final = 30.0
QUIET_S: Final = 0.02
"""Processor time in half a second of a server that does nothing."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """One stream, as its caller saw it.

    Attributes:
        first_s, whole_s: from sending to the first item, and to the end.
        items: events that came.
        wrong: what is wrong with it; empty when nothing is.
    """

    first_s: float
    whole_s: float
    items: int
    wrong: str


def declared() -> dict[str, Any]:
    """A file of the functions."""
    applications = [
        {
            "name": name,
            "route_prefix": f"/v2/models/{name}",
            "import_path": "deployments:function",
            "args": {"graph": [{"stage": name, "python": f"loadtests.bench.dripping:{name}"}], "limits": {"request_timeout_s": 120}},
        }
        for name in ("drip", "flood", "once")
    ]
    return {"http_options": {"host": HOST, "port": 8000}, "applications": applications}


def request(path: str, row: Mapping[str, object]) -> bytes:
    """A call on a connection of its own."""
    body = orjson.dumps(row)
    headers = {"host": HOST, "content-type": "application/json", "connection": "close", "content-length": len(body)}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def stream(port: int, path: str, to: int, spin_us: int = 0) -> Streamed:
    """One stream to its end; what chunks it came in does not matter."""
    reader, writer = await asyncio.open_connection(HOST, port)
    sent = time.perf_counter()
    writer.write(request(path, {"to": to, "spin_us": spin_us}))
    first_s, items, tail = 0.0, 0, b""
    while data := await reader.read(1 << 16):
        begins = (tail + data).count(b'data: {"n"')
        items += begins - tail.count(b'data: {"n"')
        if items and not first_s:
            first_s = time.perf_counter() - sent
        tail = (tail + data)[-512:]
    writer.close()
    wrong = "" if items == to and b"event: done" in tail else f"a stream of {to} items ended after {items} with {tail!r}"
    return Streamed(first_s, time.perf_counter() - sent, items, wrong)


async def streams(port: int, path: str, count: int, to: int) -> tuple[float, list[Streamed]]:
    """So many at once: items a second of all of them."""
    began = time.perf_counter()
    found = await asyncio.gather(*(stream(port, path, to) for _ in range(count)))
    return count * to / (time.perf_counter() - began), found


async def ordinary(port: int, count: int) -> list[float]:
    """Seconds of each of so many ordinary calls, one after the other."""
    seconds = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(HOST, port)
        sent = time.perf_counter()
        writer.write(request(ONCE, {"x": 1.0}))
        await reader.read()
        seconds.append(time.perf_counter() - sent)
        writer.close()
    return seconds


async def first_items(port: int, count: int, beside: int) -> list[Streamed]:
    """So many short streams, one after the other, beside others that keep the workers busy until the last of them is through."""
    busy = [asyncio.create_task(stream(port, DRIP, 10**9, BUSY_US)) for _ in range(beside)]
    await asyncio.sleep(0.3 if beside else 0)
    found = [await stream(port, DRIP, 1) for _ in range(count)]
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)
    return found


async def many(port: int, count: int) -> None:
    """So many ordinary calls on one connection."""
    async with Connection(HOST, port) as connection:
        for _ in range(count):
            await connection.exchange("POST", ONCE, b'{"x": 1.0}', {"content-type": "application/json"})
            if connection.status != 200:
                raise click.ClickException(f"{ONCE}: status {connection.status}.")


def cost_us(server: Server, count: int) -> float:
    """Processor time of the server for an ordinary call."""
    before = processor_s(server)
    asyncio.run(many(server.port, count))
    return (processor_s(server) - before) / count * 1e6


@contextlib.contextmanager
def unread(server: Server, count: int) -> Iterator[None]:
    """So many callers who began a stream and do not read it: their sockets are full, and the server has nothing to do."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            one = stack.enter_context(socket.create_connection((HOST, server.port)))
            one.sendall(request(FLOOD, {"to": 10**9}))
        spent_s = -1.0
        for _ in poll(START_S, every_s=0.5):
            before, spent_s = spent_s, processor_s(server)
            if spent_s - before < QUIET_S:
                break
        yield


@contextlib.contextmanager
def bare(port: int, log: Path) -> Iterator[int]:
    """The bare side, listening."""
    with Child(module("loadtests.bench.bare_streams", str(port)), log) as child:
        for _ in poll(START_S):
            with contextlib.suppress(OSError), socket.create_connection((HOST, port)):
                break
            if not child.is_running:
                raise child.failure("ended before it listened")
        yield port


def measure(server: Server, bare_port: int, rounds: int, count: int) -> list[Number]:
    """All numbers, in alternating rounds."""
    port = server.port
    rates: dict[tuple[str, int], list[float]] = {(side, count): [] for side in ("wakeful", "bare") for count in (1, 8)}
    first: dict[str, list[float]] = {what: [] for what in ("ordinary", "idle", "busy")}
    calls: dict[str, list[float]] = {"without": [], "with": []}
    seen: list[Streamed] = []
    for number in range(1, rounds + 1):
        click.echo(f"round {number} of {rounds}", err=True)
        for (side, callers), values in rates.items():
            at, path = (port, DRIP) if side == "wakeful" else (bare_port, bare_streams.PATH)
            value, found = asyncio.run(streams(at, path, callers, ITEMS))
            values.append(value)
            seen += found
        first["ordinary"].append(1000 * percentile(asyncio.run(ordinary(port, 100)), 0.5))
        for what, beside in (("idle", 0), ("busy", 8)):
            found = asyncio.run(first_items(port, 100 if not beside else 20, beside))
            first[what].append(1000 * percentile([one.first_s for one in found], 0.5))
            seen += found
        calls["without"].append(cost_us(server, count))
        with unread(server, 8):
            calls["with"].append(cost_us(server, count))
    void = next((one.wrong for one in seen if one.wrong), "")
    return [*_rates(rates, void), *_firsts(first, void), *_unread(calls)]


def _rates(rates: Mapping[tuple[str, int], Sequence[float]], void: str) -> Iterator[Number]:
    for count in (1, 8):
        who = "one caller" if count == 1 else f"{count} callers"
        ours, theirs = rates["wakeful", count], rates["bare", count]
        yield Number(f"stream, {who}: items", tuple(ours), "item/s", void=void)
        yield Number(f"bare Starlette stream, {who}: items", tuple(theirs), "item/s", void=void)
        ratio = tuple(one / other for one, other in zip(ours, theirs, strict=True))
        yield Number(f"stream, {who}: items, over bare Starlette", ratio, "", Target("at least", 1), void=void)


def _firsts(first: Mapping[str, Sequence[float]], void: str) -> Iterator[Number]:
    yield Number("an ordinary answer, p50", tuple(first["ordinary"]), "ms")
    yield Number("first item of a stream, p50", tuple(first["idle"]), "ms", void=void)
    note = f"each item {BUSY_US / 1000:g} ms of one worker"
    yield Number("first item of a stream beside 8 busy ones, p50", tuple(first["busy"]), "ms", note=note, void=void)


def _unread(calls: Mapping[str, Sequence[float]]) -> Iterator[Number]:
    ratio = tuple(one / other for one, other in zip(calls["with"], calls["without"], strict=True))
    yield Number("a call of another function: processor time of the server", tuple(calls["without"]), "us")
    yield Number("the same beside 8 streams that nobody reads, ratio", ratio, "", Target("at most", 1.1))


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Alternating ones.")
@click.option("--calls", "count", default=5000, show_default=True, help="Ordinary ones in each part of a round.")
def main(rounds: int, count: int) -> None:
    """Prints a table."""
    with ended_in_order(LIMIT_S), TemporaryDirectory(prefix="streaming-") as folder:
        file = Path(folder) / "streaming.yaml"
        file.write_bytes(orjson.dumps(declared()))  # JSON is YAML
        with (
            local(file, free_port(), FirstCall(ONCE, {"x": 1.0}), Path(folder) / "log") as server,
            bare(free_port(), Path(folder) / "bare.log") as bare_port,
        ):
            numbers = measure(server, bare_port, rounds, count)
    click.echo(f"{machine.describe()}.\n\n{report.table(numbers)}")


if __name__ == "__main__":
    main()
