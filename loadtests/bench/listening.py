"""What live streams of `listen` cost: ``python -m loadtests.bench.listening``.

Streams send their sound as it would be spoken, piece after piece, each over a connection of its own and out of step with the others; the
server is `wakeful run`. The real-time factor is processor time of the server over time of sound: with 16 streams, a second has 16 of them.
Every answer is looked at: streams in which speech begins or ends otherwise than in the others make a number void.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import orjson
import psutil

from loadtests.bench import machine, report
from loadtests.bench.children import ended_in_order
from loadtests.bench.figures import Number, Target, percentile
from loadtests.bench.serving import HOST, FirstCall, Server, free_port, local
from loadtests.http1 import Connection

PATH: Final = "/v2/models/listen"
SAMPLE: Final = Path("models/listen/sample.wav")
HEADER_BYTES: Final = 44
BYTES_PER_S: Final = 32000
TARGET: Final = Target("at most", 5.0)
LIMIT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Stream:
    """What came back.

    Attributes:
        events: what began or ended, and when in the stream, in seconds.
        answers_s: from the sending of each piece to its whole answer.
        late_s: how far the stream fell behind its sound at most.
    """

    events: tuple[tuple[str, float], ...]
    answers_s: tuple[float, ...]
    late_s: float


def pieces(sound: bytes, seconds: float, length_s: float) -> list[bytes]:
    """So many seconds of the sound, begun again at its end, in pieces of that length."""
    total, size = int(seconds * BYTES_PER_S / 2) * 2, int(length_s * BYTES_PER_S / 2) * 2
    whole = (sound * (total // len(sound) + 1))[:total]
    return [whole[start : start + size] for start in range(0, total, size)]


async def stream(port: int, name: str, parts: Sequence[bytes], length_s: float, begin: float) -> Stream:
    """Sends a piece when it has been spoken, or when the answer to the one before is there if that is later."""
    events: list[tuple[str, float]] = []
    answers_s: list[float] = []
    late_s = 0.0
    async with Connection(HOST, port) as connection:
        for index, part in enumerate(parts):
            due = begin + (index + 1) * length_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            headers = {"content-type": "audio/x-raw", "x-sequence-id": name}
            if index == 0:
                headers["x-sequence-start"] = "1"
            if index == len(parts) - 1:
                headers["x-sequence-end"] = "1"
            sent = time.perf_counter()
            late_s = max(late_s, sent - due)
            await connection.exchange("POST", PATH, part, headers)
            answers_s.append(time.perf_counter() - sent)
            if connection.status != 200:
                raise click.ClickException(f"{name}: status {connection.status}: {connection.body[:300].decode(errors='replace')}")
            events += [(event["event"], event["at_s"]) for event in told(connection.body) if event["event"] != "heard"]
    return Stream(tuple(events), tuple(answers_s), late_s)


def told(body: bytes) -> list[dict[str, Any]]:
    """The items of a stream of server-sent events."""
    lines = body.split(b"\n")
    return [orjson.loads(line[6:]) for line in lines if line.startswith(b"data: {") and b'"event"' in line]


def processor_s(server: Server) -> float:
    """Processor time of all processes of the server until now."""
    times = [process.cpu_times() for process in server.processes() if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    return float(sum(each.user + each.system for each in times))


async def together(port: int, count: int, parts: Sequence[bytes], length_s: float) -> list[Stream]:
    """So many streams, spread over the time of a piece."""
    begin = time.perf_counter() + 0.2
    return await asyncio.gather(*(stream(port, f"s{n}-{begin}", parts, length_s, begin + n * length_s / count) for n in range(count)))


def measure(server: Server, sound: bytes, count: int, seconds: float, length_s: float) -> list[Number]:
    """One length of pieces."""
    parts = pieces(sound, seconds, length_s)
    before = processor_s(server)
    streams = asyncio.run(together(server.port, count, parts, length_s))
    spent_s = processor_s(server) - before
    void = "" if len({one.events for one in streams}) == 1 and streams[0].events else "the streams were answered differently"
    late_s = max(one.late_s for one in streams)
    if late_s > length_s:
        void = f"a stream fell {late_s:.1f} s behind: the machine was busy"
    answers_ms = [1000 * one for each in streams for one in each.answers_s]
    what = f"`listen`, {count} streams, pieces of {length_s:g} s"
    return [
        Number(f"{what}: real-time factor", (100 * spent_s / (count * seconds),), "%", TARGET, "processor time over time of sound", void),
        Number(f"{what}: share of one core", (100 * spent_s / seconds,), "%", void=void),
        Number(f"{what}: answer to a piece, p50", (percentile(answers_ms, 0.5),), "ms", void=void),
        Number(f"{what}: answer to a piece, p99", (percentile(answers_ms, 0.99),), "ms", void=void),
    ]


@click.command()
@click.option("--streams", default=16, show_default=True, help="At the same time.")
@click.option("--seconds", default=20.0, show_default=True, help="Of sound in each.")
@click.option("--pieces", "lengths", default=(0.1, 0.25, 0.5, 1.0), multiple=True, show_default=True, help="Lengths of a piece, seconds.")
@click.option("--file", "shipped", type=Path, default="serve_config.yaml", show_default=True, help="The file that declares `listen`.")
def main(streams: int, seconds: float, lengths: Sequence[float], shipped: Path) -> None:
    """Prints a table."""
    if not SAMPLE.is_file():
        raise click.ClickException(f"missing: {SAMPLE}. Run `wakeful models pull listen` in the project's folder.")
    sound = SAMPLE.read_bytes()[HEADER_BYTES:]
    with ended_in_order(LIMIT_S), TemporaryDirectory(prefix="listening-") as folder:
        first = FirstCall("/v2/models/moderate", {"text": "hello"})
        with local(shipped, free_port(), first, Path(folder) / "log") as server:
            measure(server, sound, streams, 2.0, 0.5)  # wakes it
            numbers = [number for length_s in lengths for number in measure(server, sound, streams, seconds, length_s)]
    click.echo(f"{machine.describe()}.\n\n{report.table(numbers)}")


if __name__ == "__main__":
    main()
