"""Functions called from another process: by HTTP, at this machine's HAProxy, like everybody's calls.

So a part that sleeps is woken, one that is busy refuses, a replica that dies is replaced by another, all as for any caller; and nothing
but HTTP stands between the two. A hop of 600 KB there costs less than a handle of Ray Serve's, by reference or over gRPC
(docs/benchmarks.md).

Inference is pure, so a call that was lost with its replica is sent again, within its deadline. HAProxy does so with what fits its buffer,
64 KiB; what is larger is in hand here. ``ATTEMPTS`` bounds it: who brings down every replica that takes him must not go on.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any, Final

import orjson

from runtime.batching.rows import Ask
from runtime.callees import LOADING_S
from runtime.errors import (
    DeadlineExceeded,
    Draining,
    FunctionError,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
    WakefulError,
)
from runtime.http.client import Answer, Header, Lost, Pool, plain
from runtime.spec import CalledSpec, LimitsSpec
from runtime.wire.errors_codec import decode as decode_error
from runtime.wire.rows_codec import CONTENT_TYPE, Outcome, encode
from runtime.wire.rows_reader import decode

CONNECTIONS: Final = 256
"""Calls that are out at once, of one process; more wait for one of them, within their deadline."""

ATTEMPTS: Final = 3

PAUSE_S: Final = 0.1
"""Before the second attempt, and twice as long before the third; a HAProxy that is being reloaded refuses for less."""

GRACE_S: Final = 0.05
"""Beyond the call's deadline, which the function keeps; if it does not, we say so."""

LAST_HOPS: Final = 100

NOBODY: Final[Mapping[str, CalledSpec]] = MappingProxyType({})

Where = Callable[[], tuple[str, int]]
"""Gives the address of a HAProxy; may block."""


class Calling:
    """Callees by HTTP; see ``runtime.callees.Callees``.

    Args:
        where: asked once, and again after no connection could be had.
        calls: the functions, by name.
        loaded: False while their caller loads, until ``ready``: then they may be starting as he is.

    Mutable state: ``_called`` (what is known of each function, and its limits), ``_pool`` (None while no address is known), ``_hops`` (the
    last ones, by function), ``_loaded``.
    """

    def __init__(self, where: Where, calls: Mapping[str, CalledSpec] = NOBODY, *, loaded: bool = True) -> None:
        self._where = where
        self._called: dict[str, tuple[str, LimitsSpec]] = {}
        self._pool: Pool | None = None
        self._finding = asyncio.Lock()
        self._hops: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LAST_HOPS))
        self._loaded = loaded
        self.learn(calls)

    def __repr__(self) -> str:
        return f"<Calling {', '.join(self._called)}: {self._pool!r}>"

    def learn(self, calls: Mapping[str, CalledSpec]) -> None:
        """From now on these are known."""
        for name, called in calls.items():
            self._called[name] = called.route_prefix, LimitsSpec.model_validate(called.args.get("limits", {}))

    def ready(self) -> None:
        """Whoever calls is loaded: a function that cannot be reached is an error after ``ATTEMPTS``."""
        self._loaded = True

    @property
    def hop_ms(self) -> dict[str, float]:
        """By function: milliseconds that a call took beyond what the function says it did; the median of the last ones."""
        return {name: round(statistics.median(hops) * 1000, 3) for name, hops in self._hops.items() if hops}

    async def call(self, name: str, rows: Sequence[dict[str, Any]], ask: Ask) -> Sequence[Outcome]:
        """See ``Callees``. More rows or bytes than the function takes at once are sent in parts.

        Raises:
            FunctionError: a value that cannot go to another process.
            WakefulError: what the function answered to all of them; Unavailable or DeadlineExceeded if it did not.
        """
        is_waited_for = self._loaded and math.isfinite(ask.timeout_s)  # a first run, while a function loads, has no deadline
        deadline = time.monotonic() + (ask.timeout_s if is_waited_for else min(ask.timeout_s, LOADING_S))
        return await self._call(name, rows, ask, deadline)

    async def close(self) -> None:
        """Ends the idle connections."""
        if self._pool is not None:
            self._pool.close()

    async def _call(self, name: str, rows: Sequence[dict[str, Any]], ask: Ask, deadline: float) -> Sequence[Outcome]:
        _, limits = self._called[name]
        if len(rows) > limits.max_rows:
            return await self._halves(name, rows, ask, deadline)
        body = encode(rows)
        if sum(map(len, body)) > limits.max_body_bytes and len(rows) > 1:
            return await self._halves(name, rows, ask, deadline)
        try:
            return await self._ask(name, body, len(rows), ask, deadline)
        except TooLarge as error:  # its limits are lower than those that are known here
            if len(rows) > 1:
                return await self._halves(name, rows, ask, deadline)
            raise _not_the_callers(error) from error

    async def _halves(self, name: str, rows: Sequence[dict[str, Any]], ask: Ask, deadline: float) -> Sequence[Outcome]:
        middle = (len(rows) + 1) // 2
        halves = rows[:middle], rows[middle:]
        found = await asyncio.gather(*[self._call(name, half, ask, deadline) for half in halves], return_exceptions=True)
        outcomes: list[Outcome] = []
        for half, answer in zip(halves, found, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, WakefulError):
                raise answer
            outcomes += [answer] * len(half) if isinstance(answer, WakefulError) else answer
        return outcomes

    async def _ask(self, name: str, body: Sequence[bytes | memoryview], rows: int, ask: Ask, deadline: float) -> Sequence[Outcome]:
        for attempt in count(1):
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic() + GRACE_S):
                    return await self._attempt(name, body, rows, ask, deadline)
            except TimeoutError:
                raise DeadlineExceeded(f"the function {name!r} did not answer within the time that its caller had left.") from None
            except (Lost, Unavailable, Draining) as error:
                pause_s = PAUSE_S * min(attempt, ATTEMPTS)
                if (attempt >= ATTEMPTS and self._loaded) or time.monotonic() + pause_s >= deadline:
                    if isinstance(error, WakefulError):
                        raise
                    raise Unavailable(f"the function {name!r} cannot be reached: {error}", retry_after_s=1) from error
                await asyncio.sleep(pause_s)
        raise AssertionError("an attempt answers or raises in the end")

    async def _attempt(self, name: str, body: Sequence[bytes | memoryview], rows: int, ask: Ask, deadline: float) -> Sequence[Outcome]:
        path, limits = self._called[name]
        pool = await self._found()
        began = time.monotonic()
        left_s = deadline - began
        if left_s <= 0:
            raise TimeoutError
        headers: list[Header] = [(b"content-type", CONTENT_TYPE), (b"x-request-timeout-seconds", b"%.6f" % left_s)]
        if ask.request_id:
            headers.append((b"x-request-id", plain(ask.request_id)))
        try:
            answer = await pool.post(path, headers, body)
        except Lost:
            if self._pool is pool:  # the address may be another by now
                pool.close()
                self._pool = None
            raise
        outcomes = outcomes_of(answer, limits.max_rows)
        if len(outcomes) != rows:
            raise WakefulError(f"the function {name!r} was given {rows} rows and answered {len(outcomes)}.")
        said_s = total_s(answer.headers.get(b"server-timing", b""))
        if said_s is not None:
            self._hops[name].append(max(0.0, time.monotonic() - began - said_s))
        return outcomes

    async def _found(self) -> Pool:
        if self._pool is None:
            async with self._finding:
                if self._pool is None:
                    try:
                        host, port = await asyncio.to_thread(self._where)
                    except Exception as error:  # whatever Ray raises while its controller restarts
                        raise Lost(f"no address is known: {type(error).__name__}: {error}") from error
                    self._pool = Pool(host, port, most=CONNECTIONS)
        return self._pool


def outcomes_of(answer: Answer, max_rows: int) -> Sequence[Outcome]:
    """The rows of an answer.

    Raises:
        WakefulError: the error that it is; of status 502 to 504 and none of ours, ``Unavailable``: somebody on the way said it.
    """
    if answer.status == 200 and answer.headers.get(b"content-type") == CONTENT_TYPE:
        return decode(answer.body, max_rows)
    retry = answer.headers.get(b"retry-after", b"")
    retry_after_s = float(retry) if retry.isdigit() else None
    try:
        error = decode_error(orjson.loads(answer.body), answer.status, retry_after_s)
    except orjson.JSONDecodeError:
        error = None
    if isinstance(error, NotFound):
        raise Unavailable("it is not deployed where it was.", retry_after_s=1)
    if isinstance(error, (MalformedBody, MethodNotAllowed, UnsupportedMediaType)):
        raise _not_the_callers(error)
    if error is not None:
        raise error
    if answer.status in (502, 503, 504):
        raise Unavailable(f"an answer of status {answer.status} that is no function's.", retry_after_s=retry_after_s or 1)
    raise WakefulError(f"an answer of status {answer.status} that is no function's.")


def _not_the_callers(error: WakefulError) -> FunctionError:
    """Of an error in how a function was called by another, of which their caller knows nothing."""
    return FunctionError(f"a function that it calls refused: {error.message}")


def total_s(server_timing: bytes) -> float | None:
    """Seconds that the function says the call took, of its ``Server-Timing``."""
    for entry in server_timing.split(b","):
        name, _, value = entry.strip().partition(b";dur=")
        if name == b"total":
            try:
                return float(value) / 1000
            except ValueError:
                return None
    return None
