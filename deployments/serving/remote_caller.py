"""Calls functions of other processes over HTTP, at this machine's HAProxy, like any client.

So a function that sleeps is woken, one that is busy refuses, a replica that dies is replaced by
another, all as for any client; and there is only HTTP between the two. A hop of 600 KB costs less
than a handle of Ray Serve's, by reference or over gRPC (docs/benchmarks.md).

While an update moves a function to another prefix, its callers know both: what answers 404 at one
is called at the other. A call says which function it means (``function_routes.CALLEE_HEADER``),
since the prefix may be another one's by then.

Inference is pure, so a call that was lost with its replica is sent again, within its deadline.
HAProxy does so with what fits its buffer, 64 KiB; a larger body is sent again from here.
``ATTEMPTS`` bounds it: a call that crashes every replica must not go on. A call of a function that
declines it (``limits.replay``) is sent again only if no replica can have had it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType
from typing import Any, Final

import orjson

from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec, LimitsSpec
from runtime.errors import (
    DeadlineExceeded,
    Draining,
    FunctionError,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    NotReady,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
    WakefulError,
    refuse_too_many,
)
from runtime.execution.stages.function_stage import LOADING_S, call_in_parts
from runtime.http import function_routes
from runtime.http.client import (
    Address,
    ClientResponse,
    ConnectionLost,
    ConnectionPool,
    RequestNotSent,
    encode_header_value,
)
from runtime.http.request_headers import KEY, Header
from runtime.library.library import FunctionLibrary
from runtime.library.local_calls import LocalFunctionCaller
from runtime.protocol.row_codec import CONTENT_TYPE, Outcome, decode_error, decode_rows, encode_rows
from runtime.system.telemetry.trace import TRACEPARENT

MAX_CONNECTIONS: Final = 256
"""Calls of one process that are out at once; more wait for one of them, within their deadline."""

ATTEMPTS: Final = 3

NOT_FOUND: Final = NotFound.status

PAUSE_S: Final = 0.1
"""Before the second attempt, and twice as long before the third; a HAProxy that is being reloaded
refuses for less.
"""

ADDRESS_S: Final = 1.0
"""Longest wait for another address where there is no connection to be had at the last one; Serve's
controller, which is asked, may be restarting, and HAProxy alone may be.
"""

GRACE_S: Final = 0.05
"""After the call's deadline, which the function keeps; if it does not, the call ends here."""

HOPS_KEPT: Final = 100

AddressProvider = Callable[[], Address]
"""Returns the address of a HAProxy; may block."""


@dataclass(frozen=True, slots=True)
class RemoteFunction:
    """A function to call.

    Attributes:
        prefixes: where it may be, the likeliest first.
        limits: as declared.
    """

    prefixes: tuple[str, ...]
    limits: LimitsSpec

    @classmethod
    def of(cls, prefixes: Sequence[str], args: Mapping[str, Any]) -> RemoteFunction:
        """From where it may be and its declaration."""
        return cls(tuple(prefixes), LimitsSpec.model_validate(args.get("limits", {})))


def callees_of(spec: FunctionSpec) -> dict[str, RemoteFunction]:
    """The functions that stages of one call, by name."""
    return {
        name: RemoteFunction.of(callee.prefixes, spec.declaration_of(name))
        for name, callee in spec.deployed.calls.items()
    }


NO_FUNCTIONS: Final[Mapping[str, RemoteFunction]] = MappingProxyType({})


class HttpFunctionCaller:
    """Calls functions by HTTP; implements
    ``runtime.execution.stages.function_stage.FunctionCaller``. Used on one event loop.

    Args:
        get_address: called at the first call, and again after a connection was lost, in a thread
            beside the calls: they go on at the last address until another one is known.
        calls: the functions, by name.
        is_loaded: False while the calling function loads, until ``mark_loaded``: the functions that
            it calls may be starting, too.
        secret: of the cluster, without which a split stage does not exist
            (``runtime.http.function_routes``), and by which the edge asks for no key.

    Mutable state: ``_functions`` (by name), ``_pool`` (None while no address is known) and its
    ``_address``, ``_asked`` (the last question for it), ``_hops`` (the last ones, by function),
    ``_is_loaded``, ``_is_closed``.
    """

    def __init__(
        self,
        get_address: AddressProvider,
        calls: Mapping[str, RemoteFunction] = NO_FUNCTIONS,
        *,
        is_loaded: bool = True,
        secret: bytes = b"",
    ) -> None:
        self._get_address = get_address
        self._functions: dict[str, RemoteFunction] = {}
        self._pool: ConnectionPool | None = None
        self._address: Address | None = None
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="ingress-address")
        self._asked: asyncio.Future[Address] | None = None
        self._hops: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=HOPS_KEPT))
        self._is_loaded, self._is_closed = is_loaded, False
        self._own_headers: Sequence[Header] = (
            ((function_routes.SECRET_HEADER, secret),) if secret else ()
        )
        self.add_functions(calls)

    def __repr__(self) -> str:
        return f"<HttpFunctionCaller {', '.join(self._functions)}: {self._pool!r}>"

    def add_functions(self, calls: Mapping[str, RemoteFunction]) -> None:
        """From now on these functions can be called."""
        self._functions.update(calls)

    def set_prefixes(self, prefixes: Mapping[str, Sequence[str]]) -> None:
        """From now on functions that can be called are found there, the likeliest prefix first."""
        for name, found in prefixes.items():
            self._functions[name] = replace(self._functions[name], prefixes=tuple(found))

    def mark_loaded(self) -> None:
        """The calling function is loaded: a function that cannot be reached is an error after
        ``ATTEMPTS``.
        """
        self._is_loaded = True

    @property
    def hop_ms(self) -> dict[str, float]:
        """By function: milliseconds of a call beyond those in the function's ``Server-Timing``; the
        median of the last calls.
        """
        return {
            name: round(statistics.median(hops) * 1000, 3)
            for name, hops in self._hops.items()
            if hops
        }

    async def call(
        self, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``FunctionCaller``. More rows or bytes than the function takes at once are sent in
        parts.

        Raises:
            FunctionError: a value that cannot go to another process.
            WakefulError: what the function answered to all of them; Unavailable or DeadlineExceeded
                if it did not.
        """
        # a first run, while a function loads, has no deadline
        deadline = options.deadline
        if not (self._is_loaded and math.isfinite(deadline)):
            deadline = min(deadline, time.monotonic() + LOADING_S)
        return await call_in_parts(
            rows, lambda part: self._send_part(name, part, options, deadline)
        )

    async def wake(self, name: str, timeout_s: float) -> None:
        """Have a function loaded, wherever it belongs; return when it answers.

        Raises:
            WakefulError: why it does not; DeadlineExceeded after ``timeout_s``.
        """
        until = time.monotonic() + timeout_s
        while True:
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    pool = await self._get_pool()
                    for path in self._functions[name].prefixes:
                        target = f"{path}/ready".encode()
                        async with pool.request(b"GET", target, self._own_headers, ()) as response:
                            async for piece in response.pieces():
                                response.body.extend(piece)
                        if response.status != NOT_FOUND:
                            break
                if response.status == 200:
                    return
                _raise_not_ready(name, response)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"{name!r} has not loaded within {timeout_s:g} s; the load goes on.",
                    retry_after_s=1,
                ) from None
            except (DeadlineExceeded, Unavailable, Draining, ConnectionLost) as error:
                self._look_elsewhere(error)
                await asyncio.sleep(PAUSE_S)  # its own deadline is shorter, or routes change

    def hold(self, name: str) -> contextlib.AbstractAsyncContextManager[None]:
        """See ``FunctionCaller``. Each call wakes it, wherever it is; it may sleep in between."""
        return contextlib.nullcontext()

    async def close(self) -> None:
        """Close the idle connections."""
        self._is_closed = True
        self._asking.shutdown(wait=False, cancel_futures=True)
        if self._pool is not None:
            self._pool.close()

    async def _send_part(
        self, name: str, rows: Sequence[dict[str, Any]], options: CallOptions, deadline: float
    ) -> Sequence[Outcome]:
        """Raises TooLarge for rows that are to be sent in parts."""
        limits = self._functions[name].limits
        refuse_too_many(len(rows), limits.max_rows)
        body = encode_rows(rows)
        if sum(map(len, body)) > limits.max_body_bytes and len(rows) > 1:
            raise TooLarge(
                f"{len(rows)} rows are more than the {limits.max_body_bytes} bytes of "
                "limits.max_body_bytes."
            )
        try:
            return await self._send(name, body, len(rows), options, deadline)
        except TooLarge as error:  # its limits are lower than those that are known here
            if len(rows) > 1:
                raise
            raise _callers_fault(error) from error

    async def _send(
        self,
        name: str,
        body: Sequence[bytes | memoryview],
        rows: int,
        options: CallOptions,
        deadline: float,
    ) -> Sequence[Outcome]:
        for attempt in count(1):
            remaining_s = deadline - time.monotonic()
            try:
                async with asyncio.timeout(remaining_s + GRACE_S):
                    return await self._attempt(name, body, rows, options, deadline)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"the function {name!r} did not answer within the time that its caller had "
                    "left."
                ) from None
            except (ConnectionLost, Unavailable, Draining) as error:
                self._look_elsewhere(error)
                pause_s = PAUSE_S * min(attempt, ATTEMPTS)
                is_replayed = self._functions[name].limits.replay
                may_have_run = not isinstance(error, (RequestNotSent, Draining))
                if (
                    (may_have_run and not is_replayed)
                    or (attempt >= ATTEMPTS and self._is_loaded)
                    or time.monotonic() + pause_s >= deadline
                ):
                    if isinstance(error, WakefulError):
                        raise
                    raise Unavailable(
                        f"the function {name!r} cannot be reached: {error}", retry_after_s=1
                    ) from error
                await asyncio.sleep(pause_s)
                if isinstance(error, RequestNotSent) and self._asked is not None:
                    left_s = max(0.0, deadline - time.monotonic())
                    await asyncio.wait((self._asked,), timeout=min(ADDRESS_S, left_s / 2))
        raise AssertionError("an attempt answers or raises in the end")

    async def _attempt(
        self,
        name: str,
        body: Sequence[bytes | memoryview],
        rows: int,
        options: CallOptions,
        deadline: float,
    ) -> Sequence[Outcome]:
        callee = self._functions[name]
        limits = callee.limits
        pool = await self._get_pool()
        began = time.monotonic()
        remaining_s = deadline - began
        if remaining_s <= 0:
            raise TimeoutError
        headers: list[Header] = [
            (b"content-type", CONTENT_TYPE),
            (b"x-request-timeout-seconds", b"%.6f" % remaining_s),
            (function_routes.CALLEE_HEADER, name.encode()),
            *self._own_headers,
        ]
        if options.key:
            headers.append((KEY, options.key.encode("latin-1")))
        if options.trace is not None:
            headers.append((TRACEPARENT, options.trace.traceparent))
        if options.request_id:
            headers.append((b"x-request-id", encode_header_value(options.request_id)))
        for path in callee.prefixes:
            response = await pool.post(path, headers, body, may_resend=limits.replay)
            if response.status != NOT_FOUND:
                break
        outcomes = read_outcomes(response, limits.max_rows)
        if len(outcomes) != rows:
            raise WakefulError(
                f"the function {name!r} was given {rows} rows and answered {len(outcomes)}."
            )
        computed_s = read_total_s(response.headers.get(b"server-timing", b""))
        if computed_s is not None:
            self._hops[name].append(max(0.0, time.monotonic() - began - computed_s))
        return outcomes

    async def _get_pool(self) -> ConnectionPool:
        """Waits only while no address has ever been known, for as long as the caller does.

        Raises:
            RequestNotSent: there is none.
        """
        while self._pool is None:
            try:
                await asyncio.shield(self._ask())
            except Exception as error:  # whatever Ray raises while its controller restarts
                raise RequestNotSent(
                    f"no address is known: {type(error).__name__}: {error}"
                ) from error
        return self._pool

    def _look_elsewhere(self, error: Exception) -> None:
        """Asks whether the address is another one now, if a connection was lost."""
        if isinstance(error, ConnectionLost) and not self._is_closed:
            self._ask()

    def _ask(self) -> asyncio.Future[Address]:
        """Asks once, however many calls want it: a controller of Serve's that was stopped would
        take every thread that loads need.
        """
        if self._asked is None or self._asked.done():
            loop = asyncio.get_running_loop()
            self._asked = loop.run_in_executor(self._asking, self._get_address)
            self._asked.add_done_callback(self._take_address)
        return self._asked

    def _take_address(self, asked: asyncio.Future[Address]) -> None:
        if asked.cancelled() or asked.exception() is not None:
            return
        address = asked.result()
        if self._pool is not None and address == self._address:
            return
        if self._pool is not None:
            self._pool.close()
        self._address = address
        self._pool = ConnectionPool(address, max_connections=MAX_CONNECTIONS)


def read_outcomes(response: ClientResponse, max_rows: int) -> Sequence[Outcome]:
    """Return the rows of a response.

    Raises:
        WakefulError: the error in the response; ``Unavailable`` for a status of 502 to 504 without
            an error of ours: a proxy on the way sent it.
    """
    if response.status == 200 and response.headers.get(b"content-type") == CONTENT_TYPE:
        return decode_rows(response.body, max_rows)
    retry = response.headers.get(b"retry-after", b"")
    retry_after_s = float(retry) if retry.isdigit() else None
    try:
        error = decode_error(orjson.loads(response.body), response.status, retry_after_s)
    except orjson.JSONDecodeError:
        error = None
    if response.status == NOT_FOUND:  # whatever answers there
        raise Unavailable("it is not deployed where it was.", retry_after_s=1)
    if isinstance(error, (MalformedBody, MethodNotAllowed, UnsupportedMediaType)):
        raise _callers_fault(error)
    if error is not None:
        raise error
    message = f"an answer of status {response.status} that is no function's."
    if response.status in (502, 503, 504):
        raise Unavailable(message, retry_after_s=retry_after_s or 1)
    raise WakefulError(message)


def _raise_not_ready(name: str, response: ClientResponse) -> None:
    """Raises why a function that was asked for its readiness is not ready."""
    with contextlib.suppress(orjson.JSONDecodeError):
        data = orjson.loads(response.body)
        if isinstance(data, dict) and (reason := data.get("reason")):
            raise NotReady(f"{name!r} is loaded, and not ready: {reason}")
    read_outcomes(response, 1)


def _callers_fault(error: WakefulError) -> FunctionError:
    """Return the error for a mistake in how a function called another: their client has no part in
    it.
    """
    return FunctionError(f"a function that it calls refused: {error.message}")


def read_total_s(server_timing: bytes) -> float | None:
    """Return the seconds of the call by the function's ``Server-Timing``; None if it has none."""
    for entry in server_timing.split(b","):
        name, _, value = entry.strip().partition(b";dur=")
        if name == b"total":
            try:
                return float(value) / 1000
            except ValueError:
                return None
    return None


class LocalFirstCaller:
    """Calls functions for the functions of a host; implements
    ``runtime.execution.stages.function_stage.FunctionCaller``.

    A function that sleeps is called over HTTP, so that it wakes where it belongs: in the host that
    owns it, or in a deployment of its own.

    Mutable state: ``_library``, None until ``attach_library``.
    """

    def __init__(self, http_caller: HttpFunctionCaller) -> None:
        self.http_caller = http_caller
        self._library: FunctionLibrary | None = None

    def attach_library(self, library: FunctionLibrary) -> None:
        """From now on call in this process what this library has loaded."""
        self._library = library
        self._local_caller = LocalFunctionCaller(library)

    async def call(
        self, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``FunctionCaller``."""
        is_local = self._library is not None and self._library.has_loaded(name)
        return await (self._local_caller if is_local else self.http_caller).call(
            name, rows, options
        )

    @contextlib.asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """See ``FunctionCaller``."""
        library = self._library
        if library is not None and not library.has_loaded(name):
            await self.http_caller.wake(name, LOADING_S)
        is_local = library is not None and library.has_loaded(name)
        async with self._local_caller.hold(name) if is_local else contextlib.nullcontext():
            yield

    async def close(self) -> None:
        """Close the idle connections."""
        await self.http_caller.close()
