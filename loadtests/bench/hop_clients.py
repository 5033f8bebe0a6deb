"""What a client costs on the way between two processes: ours, aiohttp and httpx: ``python -m loadtests.bench.hop_clients``.

Each sends a body to one uvicorn, on a kept connection, and receives it again; in turns, so that a busy machine is so for all. aiohttp comes
with Ray.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import uvloop

from loadtests.bench import machine, report
from loadtests.bench.children import Child, ended_in_order, module, poll
from loadtests.bench.figures import Number
from loadtests.bench.serving import HOST, free_port
from runtime.http.client import Lost, Pool

SIZES: Final = (600_000, 2_000)
LIMIT_S: Final = 300.0
WARM: Final = 20

Post = Callable[[bytes], Awaitable[bytes | bytearray]]


async def echo(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """The server: a body's bytes back."""
    if scope["type"] != "http":
        return
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(chunks)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def measure(port: int, calls: int) -> dict[tuple[int, str], list[float]]:
    """Seconds of each call, by size and client."""
    import aiohttp
    import httpx

    url = f"http://{HOST}:{port}/"
    found: dict[tuple[int, str], list[float]] = {}
    pool = Pool(HOST, port, most=1)
    async with aiohttp.ClientSession() as session, httpx.AsyncClient() as client:

        async def by_ours(body: bytes) -> bytearray:
            return (await pool.post("/", (), (body,))).body

        async def by_aiohttp(body: bytes) -> bytes:
            async with session.post(url, data=body) as answer:
                return await answer.read()

        async def by_httpx(body: bytes) -> bytes:
            return (await client.post(url, content=body)).content

        clients: dict[str, Post] = {"ours": by_ours, "aiohttp": by_aiohttp, "httpx": by_httpx}
        for size in SIZES:
            body = os.urandom(size)
            for number in range(calls + WARM):
                for name, post in clients.items():
                    began = time.perf_counter()
                    answer = await post(body)
                    seconds = time.perf_counter() - began
                    if answer != body:
                        raise click.ClickException(f"{name} received {len(answer)} bytes that are not the {size} it sent")
                    if number >= WARM:
                        found.setdefault((size, name), []).append(seconds)
    pool.close()
    return found


async def is_up(port: int) -> bool:
    """Whether the server answers."""
    pool = Pool(HOST, port, most=1)
    try:
        return (await pool.post("/", (), (b"x",))).body == b"x"
    except Lost:
        return False
    finally:
        pool.close()


@click.command()
@click.option("--calls", default=500, show_default=True, help="Of each client and size.")
def main(calls: int) -> None:
    """Prints a table."""
    port = free_port()
    command = module("uvicorn", "loadtests.bench.hop_clients:echo", "--port", str(port), "--no-access-log", "--log-level", "error")
    with ended_in_order(LIMIT_S), TemporaryDirectory(prefix="clients-") as folder, Child(command, Path(folder) / "log"):
        for _ in poll(30.0, every_s=0.1):
            if uvloop.run(is_up(port)):
                break
        found = uvloop.run(measure(port, calls))
    numbers = [
        Number(f"{size / 1000:g} KB there and back, {name}: p50", (statistics.median(times) * 1e3,), "ms")
        for (size, name), times in found.items()
    ]
    click.echo(f"{machine.describe()}.\n\n{report.table(numbers)}")


if __name__ == "__main__":
    main()
