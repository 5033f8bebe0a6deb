"""What a call may cost others: how long a large call of another function takes meanwhile, and what
many such calls leave in memory.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from loadtests.bounds.cases import (
    SIZES,
    TAKEN,
    Case,
    compressed,
    filled,
    forms,
    lines,
    repeated,
    tensors,
    texts,
)
from loadtests.bounds.command import Look, send, serving
from loadtests.command import heading, say

INNOCENT: Final = Case(
    "an innocent large call", "/v2/models/echo", repeated('{"table": [|[0.5,0.25],|]}', 400_000)
)
"""400 kB of numbers there and back: two pieces of work beside the event loop, and a third for its
answer. No other call here is of its function.
"""
SMALL: Final = Case("a small call", "/v2/models/count", lambda: b'{"n": 1}')
PAUSE_S: Final = 0.005
ALONE: Final = 20
"""Innocent calls by themselves, the median of which is compared."""
LEFT_BYTES: Final = 16 << 10
"""Of each of many calls."""


@dataclass(frozen=True)
class Beside:
    """One call, and others meanwhile.

    Attributes:
        alone_s: what the innocent call takes by itself, the median.
        large_s: what it took meanwhile: the median and the longest.
        small_ms: what small calls took meanwhile: the 99th percentile.
    """

    case: Case
    status: int
    took_s: float
    alone_s: float
    large_s: tuple[float, float]
    small_ms: float

    def __str__(self) -> str:
        median, longest = self.large_s
        return (
            f"| {self.case.name} | {self.status} | {self.took_s:.2f} | {median * 1e3:.0f}"
            f" | {longest * 1e3:.0f} | {median / self.alone_s:.1f} | {self.small_ms:.1f} |"
        )


HEAD: Final = (
    "| call | status | s | large call, median, ms | longest, ms | times alone | small call, p99, ms"
    " |\n|---|---|---|---|---|---|---|"
)


class Caller:
    """Makes a call again and again on one connection, in a thread, until it is left.

    Mutable state: ``times_s``, of each call; ``statuses``.
    """

    def __init__(self, url: str, case: Case) -> None:
        assert case.body is not None
        self._address, self._case, self._body = url.removeprefix("http://"), case, case.body()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.times_s: list[float] = []
        self.statuses: set[int] = set()

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        headers = {"content-type": "application/json", **self._case.headers}
        with contextlib.closing(HTTPConnection(self._address, timeout=60)) as connection:
            while not (self._is_over.wait(PAUSE_S) and self.times_s):
                began = time.perf_counter()
                connection.request("POST", self._case.path, self._body, headers)
                answer = connection.getresponse()
                answer.read()
                self.times_s.append(time.perf_counter() - began)
                self.statuses.add(answer.status)


def beside(url: str, chosen: list[Case], lasts_s: float) -> Iterator[Beside]:
    """Make each call again and again for some seconds, with the innocent ones beside it.

    Raises:
        RuntimeError: an innocent call was not answered as ever.
    """
    with Caller(url, INNOCENT) as alone, Caller(url, SMALL) as small:
        while len(alone.times_s) < ALONE:
            time.sleep(PAUSE_S)
    alone_s = statistics.median(alone.times_s)
    say(f"by themselves: a large call {alone_s * 1e3:.0f} ms, small {_p99_ms(small):.1f} ms")
    for case in chosen:
        assert case.body is not None
        body, took_s, status = case.body(), list[float](), 0
        until = time.perf_counter() + lasts_s
        with Caller(url, INNOCENT) as large, Caller(url, SMALL) as small:
            while not took_s or time.perf_counter() < until:
                began = time.perf_counter()
                status = send(url, case, body)
                took_s.append(time.perf_counter() - began)
        for caller in (large, small):
            if caller.statuses != {200}:
                raise RuntimeError(f"beside {case.name}: {caller.statuses}, and 200 is expected")
        middle = statistics.median(large.times_s), max(large.times_s)
        yield Beside(case, status, statistics.median(took_s), alone_s, middle, _p99_ms(small))


def _p99_ms(caller: Caller) -> float:
    return sorted(caller.times_s)[int(len(caller.times_s) * 0.99)] * 1e3


def left(url: str, look: Look, chosen: list[Case], times: int) -> Iterator[str]:
    """Make each call so often, and yield what is left of them in memory, as rows of a table."""
    for case in chosen:
        assert case.body is not None
        body, grown, statuses = case.body(), list[float](), set[int]()
        headers = {"content-type": "application/json", **case.headers}
        for count in (times // 10, times):  # what is made once is no leak
            before = _memory_mb(look)
            connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
            for _ in range(count):
                connection.request("POST", case.path, body, headers)
                answer = connection.getresponse()
                answer.read()
                statuses.add(answer.status)
            connection.close()
            grown.append(_memory_mb(look) - before)
        found = ", ".join(map(str, sorted(statuses)))
        yield f"| {case.name} | {found} | {times} | {grown[0]:.1f} | {grown[1]:.1f} |"


def _memory_mb(look: Look) -> float:
    return sum(seen.memory_mb for seen in look().values())


LEFT_HEAD: Final = (
    "| call | status | calls | MB after the first tenth | MB after all |\n|---|---|---|---|---|"
)


def by_task(of: str, size: int) -> Iterator[Case]:
    """Calls at routes by task."""
    forms_of_input = {
        "short texts": '{"model": "embed", "input": [|"",|]}',
        "a long text": '{"model": "embed", "input": "|x|"}',
        "lists": '{"model": "embed", "input": [|[],|]}',
    }
    for name, form in forms_of_input.items():
        yield Case(f"/v1 of {of}: {name}", "/v1/embeddings", repeated(form, size))


def large_calls() -> Iterator[Case]:
    """As long to read as they may be."""
    yield from (case for case in texts("64 MB") if "/take" in case.path or "/raw" in case.path)
    yield from tensors("64 MB")
    yield from forms("64 MB", SIZES["64 MB"])
    yield from lines("64 MB", SIZES["64 MB"])
    yield from compressed("64 MB", SIZES["64 MB"])
    yield from by_task("16 MB", (16 << 20) - 64)


def small_calls() -> Iterator[Case]:
    """The same kinds, to be made often."""
    for kind in (forms, lines, compressed):
        yield from kind("16 kB", LEFT_BYTES)
    # a text that a model takes is its model's work
    yield from (case for case in by_task("16 kB", LEFT_BYTES) if "a long text" not in case.name)
    yield from filled("JSON of 16 kB", "take", TAKEN, LEFT_BYTES)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default="", help="Part of the names of the calls to make.")
@click.option("--seconds", default=3.0, help="How long each large call is made again and again.")
@click.option("--times", default=0, help="Make small calls so often, and look at memory.")
def main(only: str, seconds: float, times: int) -> None:
    """Make the calls that take longest to read, and measure what a large call of another function
    takes meanwhile; or many small ones, and what they leave in memory.
    """
    calls = small_calls() if times else large_calls()
    chosen = [case for case in calls if only in case.name]
    with TemporaryDirectory(prefix="bd-") as folder, serving("run", Path(folder)) as served:
        url, look = served
        rows = []
        for row in left(url, look, chosen, times) if times else beside(url, chosen, seconds):
            rows.append(str(row))
            say(rows[-1])
    head = LEFT_HEAD if times else HEAD
    click.echo("\n".join([f"{heading('python -m loadtests.bounds.beside')}\n", head, *rows]))


if __name__ == "__main__":
    main(prog_name="python -m loadtests.bounds.beside")
