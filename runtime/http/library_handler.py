"""All functions of a library behind one handler: the function whose prefix the path is under
answers, and is loaded for that if it sleeps.

The body of a request for a sleeping function is read while the function loads. Otherwise the part
beyond the sockets' buffers would wait in the client, and a proxy in between gives the connection up
after a while. The body is counted as any other; a client that is refused or too slow is answered at
once, and the load goes on.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from runtime.batching.reservation import BodyReservation, ByteBudget
from runtime.errors import WakefulError
from runtime.execution.admission import admission_limits_of
from runtime.execution.function import Function
from runtime.graph.requests.curl_lines import CallForm
from runtime.http import function_routes
from runtime.http.call_handler import CallHandler
from runtime.http.catalogue.cached_views import CachedText, CachedView, entries_last_s
from runtime.http.catalogue.openapi import DescribedFunction
from runtime.http.exchange import (
    AnyResponse,
    Handler,
    Request,
    Response,
    error_headers,
    json_response,
)
from runtime.http.function_handler import answer_about
from runtime.http.function_routes import RoutedRequest
from runtime.http.request_headers import callable_functions
from runtime.library.cold_start import ColdStart, wake_timing
from runtime.library.entry import DeclaredFunction, LibraryEntry
from runtime.library.library import FunctionLibrary
from runtime.protocol import dumps
from runtime.system.crash.quarantine import RowQuarantine
from runtime.system.messages import KnownPaths, path_hint
from runtime.system.telemetry.statistics import (
    FunctionStatistics,
    ReadStatistics,
    model_statistics,
)

BODIES_DIVISOR: Final = 2
"""Bodies in flight may hold the functions' memory budget over this: a quarter of what was free,
where functions have half.
"""


class LibraryHandler:
    """Answers the requests of a library's functions. The longest prefix on whole path segments
    wins, as in HAProxy. ``Request.path`` is the whole path, wherever this is mounted.

    Args:
        library: not closed here.
        behind_haproxy: True: a path that is no function's is 404, and so is one with encoded
            letters, which HAProxy has decoded where a function's prefix has them. False: other
            paths are not answered here.
        others: asked then, with the same request; None: no other handler is.
        row_quarantine, secret: as of ``CallHandler`` and ``function_routes.is_hidden``.
        statistics: reads what was counted of functions; None: in this process, the only one.

    Attributes:
        body_budget: for the bodies in flight of all functions.
        prefix: where it is mounted, for ``DirectIngress``; nothing here depends on it.
        exchanges: HTTP requests that have begun and not ended, those that wait for a load included.

    Mutable state: ``exchanges``; ``_body_budgets``, of each function that was called.
    """

    def __init__(
        self,
        library: FunctionLibrary,
        *,
        behind_haproxy: bool = True,
        others: Handler | None = None,
        row_quarantine: RowQuarantine | None = None,
        secret: bytes = b"",
        statistics: ReadStatistics | None = None,
    ) -> None:
        self._library = library
        self._statistics = statistics or self.read_statistics
        self._all_statistics = CachedView(self._read_all_statistics, entries_last_s)
        self._written_statistics = CachedText(_write_statistics)
        self._behind_haproxy = behind_haproxy
        self._others = others
        self._secret = secret
        self._calls = CallHandler(row_quarantine)
        self._body_budgets: dict[LibraryEntry, ByteBudget] = {}
        self.body_budget = ByteBudget(
            lambda: (
                math.inf if library.budget_bytes is None else library.budget_bytes / BODIES_DIVISOR
            )
        )
        self.prefix = ""
        self.exchanges = 0

    def is_hot(self, target: bytes) -> bool:
        """As of ``Handler``. A split stage is not: where ``handle`` does not answer what is not
        there, the fallback has to.
        """
        entry = self._library.entries.find(target.decode("latin-1"))
        if entry is None or entry.function is None:
            return False
        spec = entry.declared.spec
        return (
            self._behind_haproxy or not spec.deployed.part_of
        ) and function_routes.is_short_call(entry.function, target[len(spec.route_prefix) :])

    async def handle(
        self, request: Request, entry: LibraryEntry | None = None
    ) -> AnyResponse | None:
        """Return the response; None: the path is no function's, and is not answered here.

        Args:
            entry: whose prefix the path is under; None: it is looked up here.

        Raises:
            ClientDisconnected: the client disconnected.
        """
        entry = entry or self._library.entries.find(
            request.undecoded_path if self._behind_haproxy else request.path
        )
        if entry is None:
            return await self._answer_other(request)
        spec, function = entry.declared.spec, entry.function
        routed = function_routes.route_request(
            request,
            spec,
            spec.route_prefix,
            function,
            BodyReservation(
                (self.body_budget_of(entry), self.body_budget), lambda: _retry_after_s(entry)
            ),
            self._secret,
            time.monotonic(),
            time.time(),
        )
        if routed.is_hidden:
            return await self._answer_other(request)
        if routed.is_call:
            request.count_as_call(self._library.counters.of(spec.name))
        self.exchanges += 1
        request.at_end(self._on_end)
        if function is None:
            return await self._answer_asleep(entry, routed)
        entry.leases.acquire()
        # how long a stream lasts does not say how soon it is answered
        is_timed, began = routed.is_call and not function.streams, routed.began
        request.at_end(lambda: entry.leases.release(began, is_timed=is_timed))
        return await self._answer(routed, function)

    async def _answer(self, routed: RoutedRequest, function: Function) -> AnyResponse:
        """The function is loaded, and a lease is acquired."""
        if not routed.is_call:
            return await answer_about(routed, function, self._statistics)
        routed.request.at_end(routed.reservation.end)
        return await self._calls.answer(routed, function)

    def _on_end(self) -> None:
        self.exchanges -= 1

    async def _answer_other(self, request: Request) -> AnyResponse | None:
        """No function answers at the request's path, as far as its client is to know."""
        if function_routes.reads_all_statistics(request):
            seen = callable_functions(request.fields)
            return await self._statistics_response(request, self._text_of_all(seen))
        if self._behind_haproxy:
            return self._not_found(request)
        return None if self._others is None else await self._others.handle(request)

    async def _answer_asleep(self, asleep: LibraryEntry, routed: RoutedRequest) -> AnyResponse:
        """Wait for the load. Each response says in ``Server-Timing`` how long its call did; the
        first one after the load has the cold start's phases besides.
        """
        request, began = routed.request, routed.began
        record = request.record
        if routed.refusal is None and routed.route == function_routes.STATISTICS:
            return await self._statistics_response(request, self._text_of(asleep.name))
        if record.recording is not None:
            routed.keep_route(None)
        try:
            entry = await self._wake_and_read(asleep, routed)
        except BaseException as error:
            routed.reservation.end()
            record.wake_s = time.monotonic() - began
            if not isinstance(error, WakefulError):
                raise
            waited = wake_timing(record.wake_s)
            request.timing = lambda: waited
            return self._refuse_asleep(asleep, routed, error)
        record.wake_s = time.monotonic() - began
        request.at_end(lambda: entry.leases.release(began))
        # the client may disconnect before it has the response
        request.at_end(lambda: self._library.finish_cold_start(entry))
        own = wake_timing(record.wake_s)  # no reference to the request, which has this one
        request.timing = lambda: _join_timing(own, self._library.finish_cold_start(entry))
        assert entry.function is not None
        return await self._answer(routed, entry.function)

    def _refuse_asleep(
        self, asleep: LibraryEntry, routed: RoutedRequest, error: WakefulError
    ) -> Response:
        request = routed.request
        if routed.refusal is None and routed.route == function_routes.READINESS:
            request.record.reason = error.message
            answer = function_routes.readiness_response(
                asleep.name, request.told(error).message, error_headers(error)
            )
            answer.code = error.code
            return answer
        return request.error_response(routed.explain(error, lambda: _call_form(asleep.declared)))

    async def _wake_and_read(self, asleep: LibraryEntry, routed: RoutedRequest) -> LibraryEntry:
        """Wait for the function, and for the body of a call. Return the entry with a lease
        acquired.

        Raises:
            ClientDisconnected: the client disconnected.
            WakefulError: as of ``FunctionLibrary.get_loaded`` and ``Request.read_body``, whichever
                comes first. What is refused without a look at the body loads nothing.
        """
        request, deadline, began = routed.request, routed.deadline, routed.began
        if routed.refusal is not None:
            raise routed.refusal
        if deadline.at <= began:
            raise deadline.expired_error()
        loading = _start(self._library.get_loaded(asleep.name, arrived=began, until=deadline.at))
        tasks = [loading]
        is_awake = False
        try:
            await asyncio.wait((loading,), timeout=0)  # it may be refused at once
            if routed.is_call and not (loading.done() and loading.exception()):
                max_body_bytes = routed.spec.limits.max_body_bytes
                reading = _start(request.read_body(max_body_bytes, routed.reservation, deadline))
                tasks.append(reading)
                await asyncio.wait((loading, reading), return_when=asyncio.FIRST_COMPLETED)
                if not (loading.done() and loading.exception()):
                    await reading
                    request.watch()
            entry: LibraryEntry = await loading
            is_awake = True
            return entry
        finally:
            for task in tasks:
                task.cancel()
            is_loaded = loading.done() and not loading.cancelled() and not loading.exception()
            if is_loaded and not is_awake:
                loading.result().leases.release(began)

    def body_budget_of(self, entry: LibraryEntry) -> ByteBudget:
        """Return the budget of a function's bodies, those that wait for its load included."""
        budget = self._body_budgets.get(entry)
        if budget is None:
            kept = {one: own for one, own in self._body_budgets.items() if not one.is_superseded}
            budget = ByteBudget(functools.partial(_most_body_bytes, entry))
            self._body_budgets = {**kept, entry: budget}
        return budget

    def _not_found(self, request: Request) -> Response:
        known, seen = self._library.entries.public_prefixes, callable_functions(request.fields)
        if seen is not None:
            specs = [spec for name, spec in self._library.entries.specs.items() if name in seen]
            known = KnownPaths(spec.route_prefix for spec in specs)
        hint = path_hint(request.path, known)
        return request.error_response(function_routes.not_found_error(hint))

    async def _text_of(self, name: str) -> bytes:
        return _write_statistics(await self._statistics(name))

    async def _read_all_statistics(self) -> Mapping[str, FunctionStatistics]:
        return await self._statistics("")

    async def _text_of_all(self, seen: frozenset[str] | None) -> bytes:
        return self._written_statistics.text_of(await self._all_statistics.read(), seen)

    async def _statistics_response(self, request: Request, text: Awaitable[bytes]) -> Response:
        try:
            return json_response(await text)
        except WakefulError as error:
            return request.error_response(error)

    async def read_statistics(self, name: str) -> dict[str, FunctionStatistics]:
        """Return what this process has counted (``ReadStatistics``)."""
        specs = self._library.entries.specs
        names = (
            [name] if name else [one for one, spec in specs.items() if not spec.deployed.part_of]
        )
        return {one: FunctionStatistics.of(self._library.counters.of(one)) for one in names}

    def describe(self) -> tuple[Hashable, Callable[[], Iterable[DescribedFunction]]]:
        """Return what OpenAPI describes (``runtime.http.catalogue.openapi.Describe``)."""
        declared = tuple(entry.declared for entry in self._library.entries)
        return declared, lambda: (
            DescribedFunction(one.spec, one.describe() if one.describe is not None else None)
            for one in declared
            if not one.spec.deployed.part_of
        )

    async def index(self) -> list[dict[str, Any]]:
        """Return the catalogue's entries (``runtime.http.catalogue.app``)."""
        functions = []
        for name in self._library.entries.specs:
            entry = self._library.entries.require(name)
            spec, state, function = entry.spec, entry.state, entry.function
            wake = entry.measured.last_cold_start
            functions.append(
                {
                    "name": name,
                    "state": state.state,
                    "url": spec.route_prefix,
                    "reason": state.reason,
                    "description": spec.description,
                    "part_of": spec.deployed.part_of,
                    "kept": entry.is_kept,
                    "pinned": entry.is_kept_by_pin,
                    "is_quarantined": bool(entry.quarantine_reason),
                    "update": entry.update,
                    "version": entry.measured.version,
                    "device": _device_of(function),
                    "in_flight": 0 if function is None else function.in_flight.calls,
                    "sequences": 0 if function is None else function.sequence_count,
                    "loads": entry.measured.loads,
                    "memory_bytes": entry.held_bytes,
                    "last_wake": wake.to_dict() if wake is not None else None,
                    "last_minute": self._library.recent_calls(name).to_dict(),
                }
            )
        return functions


def _device_of(function: Function | None) -> dict[str, Any] | None:
    running = None if function is None else function.running
    return None if running is None else asdict(running)


def _write_statistics(
    found: Mapping[str, FunctionStatistics], seen: frozenset[str] | None = None
) -> bytes:
    if seen is not None:
        found = {one: found[one] for one in found if one in seen}
    return dumps(model_statistics(found))


def _most_body_bytes(entry: LibraryEntry) -> int:
    """In any thread."""
    function = entry.function
    limits = (
        admission_limits_of(entry.spec) if function is None else function.in_flight.admission_limits
    )
    return limits.bytes


def _retry_after_s(entry: LibraryEntry) -> float:
    function = entry.function
    return entry.measured.expected_load_s if function is None else function.in_flight.retry_after_s


def _join_timing(own: bytes, record: ColdStart | None) -> bytes:
    return own if record is None else b"%b, %b" % (own, record.server_timing())


def _start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Return a task whose exception is retrieved, though it may not be awaited."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return task


def _call_form(declared: DeclaredFunction) -> CallForm | None:
    """Return what a call of a function sends that is not loaded, where it is known."""
    interface = declared.describe() if declared.describe is not None else None
    if interface is None:
        return None
    return CallForm(
        {**interface["row"], "$defs": interface["definitions"]},
        {
            name: interface["header_examples"].get(name, "")
            for name, is_required in interface["headers"].items()
            if is_required
        },
        declared.spec.sequences is not None,
        declared.spec.example,
    )
