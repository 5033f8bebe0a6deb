"""What it costs to leave the console open: five pages against none, in turns, of a server with a
hundred functions that is called ten times a second, and of `embed` at 64 connections; and how soon
a page shows a change.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import psutil

from loadtests import declare
from loadtests.bench import wrk
from loadtests.bench.costs.seen import CALLED, ONE
from loadtests.bench.numbers import Number
from loadtests.command import CORES, Bench
from loadtests.server import Server, free_port, local, path_of, up
from runtime.http.catalogue.console.page import console_page

PAGES: Final = 5
FUNCTIONS: Final = 100
CALLS_PER_S: Final = 10

TURN_S: Final = 20
"""Of ten calls a second: two looks at the history, four samples."""

ROUNDS: Final = 5
EMBED_S: Final = 4
OPENED_S: Final = 1.0
"""After pages were opened: a page that is left open is measured, and not what it is told first."""

EMBED_ROUNDS: Final = 9
WAKES: Final = 20

CATALOGUE: Final = "WakefulCatalogue"
"""In the title of its process."""


class Page:
    """An open page that reads what it is told, in a thread.

    Mutable state: ``events``, when each came, on the clock of ``time.monotonic``, with its data.
    """

    def __init__(self, url: str) -> None:
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self._is_over = False
        self._response = contextlib.ExitStack()
        self._lines = self._response.enter_context(
            httpx.stream("GET", f"{url}/console/events", timeout=60)
        ).iter_lines()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        name = ""
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError):
            for line in self._lines:
                key, _, value = line.partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    self.events.append((time.monotonic(), name, json.loads(value)))
                if self._is_over:
                    return

    def close(self) -> None:
        """Read no further."""
        self._is_over = True
        self._response.close()
        self._thread.join(10)


@contextlib.contextmanager
def pages(url: str, count: int) -> Iterator[list[Page]]:
    """So many pages are open."""
    found = [Page(url) for _ in range(count)]
    try:
        yield found
    finally:
        for page in found:
            page.close()


def console(bench: Bench) -> Iterator[Number]:
    """By `wakeful run`, whose process answers calls as well; and the catalogue of `wakeful up`."""
    page = console_page()
    sizes = [len(file.codings["zstd"]) for file in (page.html, *page.files.values())]
    yield Number("console: all assets, compressed", [sum(sizes) / 1000], "KB", at_most=250)
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    trivial = [declare.function(f"f{n:03}", graph) for n in range(FUNCTIONS - 1)]
    embed = declare.like("embed", autoscaling=ONE, resources={"num_cpus": CORES})
    file = declare.write(bench.folder / "console.yaml", (embed, *trivial))
    with local(file, free_port(), bench.log("console-run")) as server:
        process = _run_process(server)
        yield from _kept_open(bench, server, "`wakeful run`", process)
        yield from _shown(bench, server, "`wakeful run`")
        yield from _embed(bench, server, process)
    with up(file, bench.port, bench.log("console-up"), {}) as server:
        yield from _kept_open(
            bench, server, "the catalogue of `wakeful up`", server.titled(CATALOGUE)[0]
        )
        yield from _shown(bench, server, "`wakeful up`")


def _run_process(server: Server) -> psutil.Process:
    """The one of this program's that listens at the server's port."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(one.laddr.port == server.port for one in process.net_connections("tcp")):
                return process
    raise LookupError(f"no process listens at {server.url}")


def _kept_open(bench: Bench, server: Server, by: str, process: psutil.Process) -> Iterator[Number]:
    """Processor time and memory of a process, with pages and without, in turns."""
    what = f"console: {by}, {FUNCTIONS} functions, {CALLS_PER_S} calls/s"
    shares: dict[int, list[float]] = {0: [], PAGES: []}
    _call(server, bench.pick(TURN_S, 2))  # what calls allocate on use is then there
    before, held = process.memory_info().rss / 1e6, list[float]()
    with pages(server.url, PAGES):
        _call(server, bench.pick(TURN_S, 2))
    for _ in bench.rounds(what, ROUNDS):
        for count in shares:
            with pages(server.url, count):
                time.sleep(1)
                used_s, began = _busy_s(process), time.monotonic()
                _call(server, bench.pick(TURN_S, 2))
                shares[count].append((_busy_s(process) - used_s) / (time.monotonic() - began) * 100)
                if count:
                    held.append(process.memory_info().rss / 1e6 - before)
    more = [busy - idle for busy, idle in zip(shares[PAGES], shares[0], strict=True)]
    yield Number(f"{what}: processor, no page open", shares[0], "% of a core")
    yield Number(f"{what}: {PAGES} open, more than that", more, "% of a core", at_most=2)
    yield Number(f"{what}: memory, {PAGES} open, more than before", held, "MB", at_most=20)


def _busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _call(server: Server, seconds: float) -> None:
    """Call functions one after the other, at an even rate."""
    until, number = time.monotonic() + seconds, 0
    with httpx.Client(base_url=server.url, timeout=60) as client:
        while (now := time.monotonic()) < until:
            client.post(path_of(f"f{number % (FUNCTIONS - 1):03}"), json={"x": 1.5})
            number += 1
            time.sleep(max(0.0, 1 / CALLS_PER_S - (time.monotonic() - now)))


def _shown(bench: Bench, server: Server, by: str) -> Iterator[Number]:
    """From the press of a button until the page has the next state of the function."""
    took: list[float] = []
    with pages(server.url, 1) as (page,), httpx.Client(base_url=server.url, timeout=60) as client:
        token = client.get("/console/session").json()["token"]
        for _ in bench.rounds(f"a wake on a page of {by}", WAKES):
            for verb, state in (("sleep", "asleep"), ("wake", "ready")):
                began = time.monotonic()
                path = f"/console/functions/f000/{verb}"
                client.post(path, headers={"x-console-token": token}).raise_for_status()
                done = time.monotonic()
                seen = _wait_until_shown(page, state, began)
                if verb == "wake":
                    took.append(max(0.0, seen - done))
    slowest = sorted(took)[int(0.95 * (len(took) - 1))] if took else 0.0
    what = f"console: {by}, from a function that is ready to a page that shows it"
    yield Number(what, took, "s")
    yield Number(f"{what}, slowest of twenty", [slowest], "s", at_most=0.5)


def _wait_until_shown(page: Page, state: str, since: float) -> float:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for seen, name, data in reversed(page.events):
            if seen < since:
                break
            if name == "functions" and any(
                (one["name"], one["state"]) == ("f000", state) for one in data["functions"]
            ):
                return float(seen)
        time.sleep(0.002)
    raise TimeoutError(f"f000 was not shown as {state}")


def _embed(bench: Bench, server: Server, process: psutil.Process) -> Iterator[Number]:
    """Each turn with pages is compared with the mean of those without before and behind it."""
    row, connections = CALLED["embed"]
    url, seconds = server.url + path_of("embed"), bench.pick(EMBED_S, 1)
    times: dict[int, list[float]] = {0: [], PAGES: []}

    def turn(count: int) -> wrk.Load:
        with pages(server.url, count):
            time.sleep(OPENED_S)
            busy_s = _busy_s(process)
            load = wrk.run(url, [row], connections, seconds)
        times[count].append((_busy_s(process) - busy_s) / max(1, load.requests) * 1000)
        return load

    turn(0)
    plain, opened, shares = [turn(0)], list[wrk.Load](), list[float]()
    what = f"`embed` by `wakeful run`, {connections} connections"
    for _ in bench.rounds(f"{what}, pages of the console", EMBED_ROUNDS):
        opened.append(turn(PAGES))
        plain.append(turn(0))
        beside = statistics.fmean(one.requests_per_s for one in plain[-2:])
        shares.append(opened[-1].requests_per_s / beside)
    void = next((one.void for one in (*plain, *opened) if one.void), "")
    rates = [one.requests_per_s for one in plain]
    yield Number(f"{what}, no page open", rates, "req/s", void=void)
    yield Number(f"{what}, {PAGES} pages open: share of that", shares, "", "", void, 0.98)
    for count, of in times.items():
        yield Number(f"{what}, {count} pages open: processor time a call", of, "ms", void=void)
