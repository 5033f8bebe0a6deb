"""The other processes of ``wakeful run --workers``, as one of them sees them: whichever is asked
for the index, metrics, or to load and unload a function asks the others too, so that the answer is
about all.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from deployments.ingress.haproxy_metrics import read_metrics
from deployments.local.merged_views import Entry, count_states, merge_indexes
from deployments.observability.metrics_page import HAPROXY, write_metrics_page
from runtime.errors import NotFound, RequestError, Unavailable, WakefulError
from runtime.http.catalogue.console.sources import ConsoleCounts, FunctionNews, ProcessCounts
from runtime.http.catalogue.process_share import (
    CONSOLE_COUNTS,
    CONSOLE_NEWS,
    COUNTS,
    CatalogueSources,
)
from runtime.http.client import ConnectionLost, ConnectionPool
from runtime.http.function_routes import SECRET_HEADER
from runtime.http.request_headers import Header
from runtime.library.capture.captures import Order
from runtime.library.capture.control import CaptureControl, CaptureStatus
from runtime.library.residency import LOAD_WAIT_S, UNLOAD_WAIT_S
from runtime.system.cores import MAX_PROCESSES
from runtime.system.telemetry.recent import Traffic, merge_traffic
from runtime.system.telemetry.recent_failures import RecentFailure, merge_failures
from runtime.system.telemetry.statistics import (
    FunctionStatistics,
    StatisticsReport,
    StatisticsTable,
)

OWN_PREFIX: Final = "/-/process"
"""Below it are a process's own routes; HAProxy passes nothing of it on."""

TELL_S: Final = 1.0
"""Longest wait for what another process says of itself; one that is busy longer is left out."""

ACT_S: Final = LOAD_WAIT_S + UNLOAD_WAIT_S
"""Longest wait for another one to load or unload: it says sooner what has become of it."""

MOST_CONNECTIONS: Final = 8
"""To each of the others."""

MANY: Final = MAX_PROCESSES
"""More than any place's number."""


class PeerAnswer(NamedTuple):
    """What another process answered."""

    status: int
    body: bytes


class Peers:
    """The others. Used on one event loop.

    Args:
        slot: the place of this process, from 0 on.
        own: what is told of this process.
        front_socket: HAProxy's.
        on_pin: called with the name of a function that is pinned, or is no longer.
        on_capture: called with the name of a function whose calls are recorded by an operator's
            order, or None: no longer.
        secret: by which the others know this process, where keys are on; else empty.

    Mutable state: ``_pools`` (connections by place), ``_counts`` (what processes have counted).
    """

    def __init__(
        self,
        slot: int,
        own: CatalogueSources,
        front_socket: Path,
        on_pin: Callable[[str, bool], None],
        on_capture: Callable[[str, Order | None], None],
        secret: bytes = b"",
    ) -> None:
        self._headers = ((SECRET_HEADER, secret),) if secret else ()
        self._slot = slot
        self._own = own
        self._front_socket = front_socket
        self._on_pin = on_pin
        self._on_capture = on_capture
        self._pools: dict[int, tuple[int, ConnectionPool]] = {}
        self._counts = StatisticsTable(time.monotonic())

    def set_ports(self, ports: Mapping[int, int]) -> None:
        """These serve now, by place; this process may be among them."""
        for slot, (port, pool) in list(self._pools.items()):
            if ports.get(slot) != port:
                pool.close()
                del self._pools[slot]
        for slot, port in ports.items():
            if slot != self._slot and slot not in self._pools:
                pool = ConnectionPool(("127.0.0.1", port), max_connections=MOST_CONNECTIONS)
                self._pools[slot] = port, pool

    def sources(self) -> CatalogueSources:
        """What is told of all."""
        own, console = self._own.captures, self._own.console
        return CatalogueSources(
            self.index,
            self.metrics,
            self,
            self.statistics,
            self._own.recent,
            None if own is None else PeerCaptures(own, self._ask, self._on_capture),
            None if console is None else self._console(console),
        )

    def _console(self, own: ConsoleCounts) -> ConsoleCounts:
        """What the console of all is told. HAProxy leads pages to the first process that serves,
        which keeps the history of all.
        """

        async def counts() -> ProcessCounts:
            assert own.report is not None
            others = await self._read_counts(CONSOLE_COUNTS)
            mine = own.report()
            self._counts.keep("", mine.statistics, time.monotonic())
            awake = Counter(mine.loaded)
            for told in others:
                awake.update(told["loaded"])
            return ProcessCounts(self._counts.all(), awake, self._counts.earlier())

        async def news(name: str) -> FunctionNews:
            path = CONSOLE_NEWS + quote(name, safe="")
            mine, others = await asyncio.gather(own.news(name), self._read_all(path))
            failures = [[RecentFailure(*one) for one in told["failures"]] for told in others]
            decisions = [*mine.decisions, *(one for told in others for one in told["decisions"])]
            return FunctionNews(
                sorted(decisions, key=lambda one: one["at"]),
                merge_failures([mine.failures, *failures]),
            )

        return ConsoleCounts(
            counts,
            news,
            lambda: self._counts.begin(time.monotonic()),
            lambda: self._slot < min(self._pools, default=MANY),
        )

    async def index(self) -> list[Entry]:
        """See ``CatalogueSources``."""
        own, others, counts = await asyncio.gather(
            self._own.index(), self._read_all("/"), self._read_counts(COUNTS)
        )
        merged = merge_indexes([own, *(told["functions"] for told in others)])
        for entry in merged:
            name = entry["name"]
            recent = [told["recent"] for told in counts]
            told = [Traffic.from_wire(one[name]) for one in recent if name in one]
            entry["last_minute"] = merge_traffic([self._own.recent(name), *told]).to_dict()
        return merged

    async def metrics(self) -> bytes:
        """See ``CatalogueSources``: a page with the label ``process``."""
        own, others, index, haproxy = await asyncio.gather(
            self._own.metrics(),
            self._ask(b"GET", "/metrics", TELL_S),
            self.index(),
            asyncio.to_thread(read_metrics, self._front_socket),
        )
        texts = {slot: answer.body for slot, answer in others.items() if answer.status == 200}
        pages = {
            process_name(slot): text.decode()
            for slot, text in sorted({**texts, self._slot: own}.items())
        }
        return write_metrics_page(count_states(index), {**pages, HAPROXY: haproxy})

    async def statistics(self, name: str) -> dict[str, FunctionStatistics]:
        """See ``CatalogueSources``: the sums. Of a process that does not answer in time, or has
        ended, its last report counts: no sum falls.
        """
        assert self._own.report is not None
        own, _ = await asyncio.gather(self._own.statistics(name), self._read_counts(COUNTS))
        self._counts.keep("", self._own.report(), time.monotonic())
        found = self._counts.all()
        return {one: found.get(one, FunctionStatistics()) for one in own}

    async def _read_counts(self, path: str) -> list[dict[str, Any]]:
        """Return what those tell of their counts that answer in time, and keep it."""
        # another process at a place has another port, and counts from nothing; it may take the
        # place while the answer comes
        ports = {slot: port for slot, (port, _) in self._pools.items()}
        answers = await self._ask(b"GET", path, TELL_S)
        found = {
            slot: orjson.loads(answer.body)
            for slot, answer in answers.items()
            if answer.status == 200
        }
        for slot, told in found.items():
            report = StatisticsReport(told["counts"], told["age_s"], is_whole=True)
            self._counts.keep(f"{slot}:{ports[slot]}", report, time.monotonic())
        return list(found.values())

    async def load(self, name: str) -> None:
        """See ``runtime.library.residency.FunctionRepository``: in every process."""
        await self._everywhere(self._own.repository.load, name, "load")

    async def unload(self, name: str) -> None:
        """Likewise."""
        await self._everywhere(self._own.repository.unload, name, "unload")

    async def pin(self, name: str) -> None:
        """Likewise; also in a process that takes the place of one of these."""
        await self._everywhere(self._own.repository.pin, name, "pin")

    async def unpin(self, name: str) -> None:
        """Likewise."""
        await self._everywhere(self._own.repository.unpin, name, "unpin")

    async def _everywhere(
        self, here: Callable[[str], Awaitable[None]], name: str, verb: str
    ) -> None:
        """Have all do it at once; raise the first error once all have answered."""
        path = f"/v2/repository/models/{quote(name, safe='')}/{verb}"
        found, others = await asyncio.gather(_outcome(here(name)), self._ask(b"POST", path, ACT_S))
        if verb in ("pin", "unpin") and not isinstance(found, NotFound):
            self._on_pin(name, verb == "pin")
        _raise_first([found, *map(_error_of, others.values())])

    async def _read_all(self, path: str) -> list[dict[str, Any]]:
        """Return what those tell that answer in time."""
        answers = (await self._ask(b"GET", path, TELL_S)).values()
        return [orjson.loads(answer.body) for answer in answers if answer.status == 200]

    async def _ask(
        self, method: bytes, path: str, timeout_s: float, body: bytes = b""
    ) -> dict[int, PeerAnswer]:
        """Return the answers of those that give one in time, by place."""
        pools = {slot: pool for slot, (_, pool) in self._pools.items()}
        target = OWN_PREFIX + path
        answers = await asyncio.gather(
            *(
                _request(pool, method, target, self._headers, timeout_s, body)
                for pool in pools.values()
            )
        )
        return {
            slot: answer for slot, answer in zip(pools, answers, strict=True) if answer is not None
        }


Ask = Callable[[bytes, str, float, bytes], Awaitable[dict[int, PeerAnswer]]]
"""As of ``Peers._ask``: method, path, longest wait in seconds and body."""


class PeerCaptures:
    """Implements ``runtime.library.capture.control.CaptureControl`` for all processes: each records
    the calls that come to it, in one file.

    Args:
        own: of this process.
        ask: asks the others.
        on_order: as ``on_capture`` of ``Peers``, for a process that takes the place of one.
    """

    def __init__(
        self, own: CaptureControl, ask: Ask, on_order: Callable[[str, Order | None], None]
    ) -> None:
        self._own = own
        self._ask = ask
        self._on_order = on_order

    async def start(self, name: str, order: Order) -> CaptureStatus:
        """See ``CaptureControl``."""
        started = await self._own.start(name, order)
        self._on_order(name, order)
        body = orjson.dumps({"rate": order.rate, "for_s": order.until - time.time()})
        return await self._sum(started, b"POST", name, body)

    async def stop(self, name: str) -> CaptureStatus:
        """See ``CaptureControl``."""
        stopped = await self._own.stop(name)
        self._on_order(name, None)
        return await self._sum(stopped, b"DELETE", name)

    async def status(self, name: str) -> CaptureStatus:
        """See ``CaptureControl``."""
        return await self._sum(await self._own.status(name), b"GET", name)

    async def _sum(
        self, own: CaptureStatus, method: bytes, name: str, body: bytes = b""
    ) -> CaptureStatus:
        path = f"/v2/repository/models/{quote(name, safe='')}/capture"
        answers = (await self._ask(method, path, TELL_S, body)).values()
        _raise_first(map(_error_of, answers))
        others = [orjson.loads(answer.body) for answer in answers]
        return own.adding(sum(one["calls"] for one in others), sum(one["lost"] for one in others))


def process_name(slot: int) -> str:
    """The name of a process in metrics: ``run-1`` is the first."""
    return f"run-{slot + 1}"


async def _request(
    pool: ConnectionPool,
    method: bytes,
    target: str,
    headers: Sequence[Header],
    timeout_s: float,
    body: bytes,
) -> PeerAnswer | None:
    try:
        async with (
            asyncio.timeout(timeout_s),
            pool.request(method, target.encode(), headers, (body,) if body else ()) as response,
        ):
            async for piece in response.pieces():
                response.body.extend(piece)
            return PeerAnswer(response.status, bytes(response.body))
    except (ConnectionLost, TimeoutError):  # it is ending, or does not answer
        return None


async def _outcome(work: Awaitable[None]) -> WakefulError | None:
    try:
        await work
    except WakefulError as error:
        return error
    return None


def _error_of(answer: PeerAnswer) -> WakefulError | None:
    """The error that another process answered with, for the client."""
    if answer.status < 400:
        return None
    try:
        told = orjson.loads(answer.body)
        message, where = str(told["error"]), str(told["where"])
    except (ValueError, KeyError, TypeError):
        message, where = "another process has not done it; its log has the reason.", ""
    if answer.status < 500:
        return RequestError(message, where=where, status=answer.status)
    return Unavailable(message, where=where, retry_after_s=1)


def _raise_first(errors: Iterable[WakefulError | None]) -> None:
    """Raise the first error, if there is any."""
    for error in errors:
        if error is not None:
            raise error
