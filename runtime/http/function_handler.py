"""Answers the requests of one function, at its routes (``runtime.http.function_routes``): its calls
by ``CallHandler``, what it is and whether it is ready here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.errors import Quarantined
from runtime.execution.function import Function
from runtime.http.bodies.byte_budget import ByteBudget
from runtime.http.bodies.offloading import OffloadThreads
from runtime.http.call_handler import CallHandler
from runtime.http.exchange import (
    AnyResponse,
    ClientDisconnected,
    Request,
    Response,
    json_response,
)
from runtime.http.function_routes import (
    CONFIGURATION,
    GENERATE_ROUTES,
    METHODS,
    ROUTES,
    STATISTICS,
    call_form,
    explain_refusal,
    hot_targets,
    is_hidden,
    is_plain_json,
    keep_answer,
    keep_route,
    not_found_error,
    readiness_response,
    refusal,
)
from runtime.http.request_headers import RequestDeadline
from runtime.protocol import dumps
from runtime.system.crash.quarantine import RowQuarantine
from runtime.system.telemetry.statistics import (
    FunctionStatistics,
    ReadStatistics,
    model_statistics,
)
from runtime.types.annotations import REQUEST_ID


class FunctionHandler:
    """Answers the requests of one loaded function. It is mounted at the request's ``prefix``.

    Args:
        function: loaded; not closed here.
        row_quarantine: decides which rows must not share a batch, or not run; None: all may.
        budgets: for its bodies, and for those of all functions of the process; none: this is the
            process's only function.
        threads: the process's for large work; None: this is its only function.
        secret: of the cluster, which calls by other functions carry (``is_hidden``).
        statistics: reads what was counted of the function; None: in this process, which is its
            only one.

    Attributes:
        quarantine: why no call is computed any more, though the function is loaded; else empty.
        exchanges: HTTP requests that have begun and whose answers are not sent yet.
    """

    def __init__(
        self,
        function: Function,
        row_quarantine: RowQuarantine | None = None,
        *,
        budgets: Sequence[ByteBudget] = (),
        threads: OffloadThreads | None = None,
        secret: bytes = b"",
        statistics: ReadStatistics | None = None,
    ) -> None:
        self.function = function
        self._statistics = statistics or self._read_own_statistics
        self._prefix: str | None = None
        self._hot_targets: tuple[bytes, ...] = ()
        self.quarantine = ""
        self.exchanges = 0
        self._secret = secret
        self._calls = CallHandler(function, row_quarantine, budgets=budgets, threads=threads)

    @property
    def prefix(self) -> str | None:
        """Where it is mounted, once a request has shown it; None before."""
        return self._prefix

    @prefix.setter
    def prefix(self, prefix: str | None) -> None:
        if prefix != self._prefix:
            self._prefix = prefix
            self._hot_targets = () if prefix is None else hot_targets(self.function, prefix)

    def is_hot(self, target: bytes) -> bool:
        """Return whether it is a path of the function, as of ``Handler``."""
        return target in self._hot_targets

    async def handle(
        self, request: Request, deadline: RequestDeadline | None = None
    ) -> AnyResponse:
        """Return the response; every error becomes one.

        Args:
            deadline: the request's, where it was read before; None: it is read from the headers.

        Raises:
            ClientDisconnected: the client disconnected.
        """
        self.prefix = request.prefix
        if request.method == "POST":
            request.count_as_call(self.function.counters)
        self.exchanges += 1
        request.at_end(self._on_end)
        try:
            answer = await self._answer(request, deadline)
            if request.recording is not None and isinstance(answer, Response):
                keep_answer(request.recording, answer)
            return answer
        except ClientDisconnected:
            raise
        except Exception as error:  # every fault becomes a response here
            function = self.function
            told = explain_refusal(error, request, function.spec, lambda: call_form(function))
            refused = request.error_response(told)
            # a row has its error, and what the error came through has the row: only a garbage
            # collection would free both, and a function with them
            error.__traceback__ = None
            return refused

    def _on_end(self) -> None:
        self.exchanges -= 1

    async def _answer(self, request: Request, deadline: RequestDeadline | None) -> AnyResponse:
        if request.recording is not None:
            # a body of another type may be one field as it is, which is not known here
            is_known = not self.function.spec.accepts or is_plain_json(request)
            known = self.function.protocol.input_names if is_known else None
            keep_route(request, request.prefix, known)
        if is_hidden(self.function.spec, request, self._secret):
            raise not_found_error()
        route = ROUTES.get(request.path[len(request.prefix) :])
        if route in GENERATE_ROUTES and not self.function.streams:
            route = None
        if route is None or request.method not in METHODS[route]:
            raise refusal(self.function.spec.name, request.prefix, route)
        if request.method == "POST":
            if self.quarantine:
                raise Quarantined.of(self.function.spec.name, self.quarantine)
            return await self._calls.answer(route, request, deadline)
        if route == CONFIGURATION:
            function = self.function
            answer = function.protocol.configuration(function.spec, streams=function.streams)
            return json_response(dumps(answer))
        if route == STATISTICS:
            return json_response(
                dumps(model_statistics(await self._statistics(self.function.spec.name)))
            )
        return self._readiness_response() if route else self._metadata_response()

    async def _read_own_statistics(self, name: str) -> Mapping[str, FunctionStatistics]:
        return {name: FunctionStatistics.of(self.function.counters)}

    def _metadata_response(self) -> Response:
        function = self.function
        metadata = function.protocol.metadata()
        parameters: dict[str, bool | str] = {}
        if function.spec.description:
            parameters["description"] = function.spec.description
        if function.streams:
            parameters["streams"] = True
        if function.sequences is not None:
            parameters["sequences"] = True
        if names := [name for name in function.headers if name != REQUEST_ID.name]:
            parameters["headers"] = ", ".join(names)
        if called := function.spec.called_functions:
            parameters["calls"] = ", ".join(called)
        if parameters:
            metadata = {**metadata, "parameters": parameters}
        return json_response(dumps(metadata))

    def _readiness_response(self) -> Response:
        reason = self.quarantine or self.function.trouble
        return readiness_response(self.function.spec.name, reason)
