"""Answers the requests of one loaded function, at its routes (``runtime.http.function_routes``):
its calls by ``CallHandler``, and here what it is and whether it is ready.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from runtime.batching.reservation import BodyReservation, ByteBudget
from runtime.errors import LoadError
from runtime.execution.function import Function
from runtime.http.call_handler import CallHandler
from runtime.http.exchange import AnyResponse, Request, Response, json_response
from runtime.http.function_routes import (
    CONFIGURATION,
    READINESS,
    STATISTICS,
    RoutedRequest,
    is_short_call,
    readiness_response,
    route_request,
)
from runtime.http.request_headers import callable_functions
from runtime.protocol import dumps
from runtime.system.crash.quarantine import RowQuarantine
from runtime.system.telemetry.statistics import (
    FunctionStatistics,
    ReadStatistics,
    model_statistics,
)
from runtime.types.annotations import REQUEST_ID


class FunctionHandler:
    """Answers the requests of a process's only function. It is mounted at the request's ``prefix``.

    Args:
        function: loaded; not closed here.
        row_quarantine: as of ``CallHandler``.
        secret: of the cluster, which calls by other functions carry
            (``function_routes.is_hidden``).
        statistics: reads what was counted of the function; None: in this process, which is its
            only one.

    Attributes:
        prefix: where it is mounted, once a request has shown it; None before.
        quarantine: why no call is computed any more, though the function is loaded; else empty.
        exchanges: HTTP requests that have begun and whose answers are not sent yet.
    """

    def __init__(
        self,
        function: Function,
        row_quarantine: RowQuarantine | None = None,
        *,
        secret: bytes = b"",
        statistics: ReadStatistics | None = None,
    ) -> None:
        self.function = function
        self._statistics = statistics or self._read_own_statistics
        self._budgets = (ByteBudget(lambda: function.in_flight.admission_limits.bytes),)
        self.prefix: str | None = None
        self.quarantine = ""
        self.exchanges = 0
        self._secret = secret
        self._calls = CallHandler(row_quarantine)

    def is_hot(self, target: bytes) -> bool:
        """Return whether it is a path of the function, as of ``Handler``."""
        prefix = self.prefix
        return (
            prefix is not None
            and target.startswith(own := prefix.encode())
            and is_short_call(self.function, target[len(own) :])
        )

    async def handle(self, request: Request) -> AnyResponse:
        """Return the response; every error becomes one.

        Raises:
            ClientDisconnected: the client disconnected.
        """
        prefix, function = request.prefix, self.function
        self.prefix = prefix
        routed = route_request(
            request,
            function.spec,
            prefix,
            function,
            BodyReservation(self._budgets, self._retry_after_s),
            self._secret,
            time.monotonic(),
            time.time(),
        )
        self.exchanges += 1
        request.at_end(self._on_end)
        if not routed.is_call:
            return await answer_about(routed, function, self._statistics, self.quarantine)
        request.count_as_call(function.counters)
        request.at_end(routed.reservation.end)
        return await self._calls.answer(routed, function, self.quarantine)

    def _on_end(self) -> None:
        self.exchanges -= 1

    def _retry_after_s(self) -> float:
        return self.function.in_flight.retry_after_s

    async def _read_own_statistics(self, name: str) -> Mapping[str, FunctionStatistics]:
        return {name: FunctionStatistics.of(self.function.counters)}


async def answer_about(
    routed: RoutedRequest, function: Function, statistics: ReadStatistics, quarantine: str = ""
) -> Response:
    """Return the response to a request that is no call: what a loaded function is, whether it can
    answer, what was counted of it. Every error becomes one.

    Args:
        statistics: as of ``FunctionHandler``.
        quarantine: why no call is computed any more; else empty.
    """
    try:
        if routed.refusal is not None:
            raise routed.refusal
        name = function.spec.name
        if routed.route == CONFIGURATION:
            answer = function.protocol.configuration(function.spec, streams=function.streams)
            return json_response(dumps(answer))
        if routed.route == STATISTICS:
            return json_response(dumps(model_statistics(await statistics(name))))
        if routed.route == READINESS:
            trouble = function.trouble
            if trouble:  # the text is that of a load that would fail
                trouble = routed.request.told(LoadError(trouble)).message
            return readiness_response(name, quarantine or trouble)
        return json_response(dumps(_metadata_of(function, routed.request)))
    except Exception as error:  # every fault becomes a response here
        refused = routed.request.error_response(error)
        error.__traceback__ = None  # as in ``CallHandler.answer``
        return refused


def _metadata_of(function: Function, request: Request) -> Mapping[str, object]:
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
    seen = callable_functions(request.fields)
    called = [one for one in function.spec.called_functions if seen is None or one in seen]
    if called:
        parameters["calls"] = ", ".join(called)
    return {**metadata, "parameters": parameters} if parameters else metadata
