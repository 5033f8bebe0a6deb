"""Locust's users of functions, for plain ``locust -f FILE`` with its page and its tables.

A user sends calls at random moments, ``rate`` a second on average, whatever becomes of them (an
open loop): so many users are so many calls a second, and the latency that Locust shows counts from
when a call was to be sent. The calls of all users of a process share its connections.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import gevent
from gevent import Greenlet
from gevent.lock import RLock
from locust import User, task

from deployments.loadtest.calls.answers import Checks
from deployments.loadtest.calls.load_call import LoadCall
from deployments.loadtest.generator.connections import Server
from deployments.loadtest.generator.open_files import CONNECTIONS
from deployments.loadtest.generator.open_loop import OpenLoop
from deployments.loadtest.generator.plan import LEAST_LAG_S
from deployments.loadtest.results.records import CallRecord

HOST: Final = "http://127.0.0.1:8000"
"""Where no ``--host`` is given."""

TIMEOUT_S: Final = 60.0


class UserCalls(NamedTuple):
    """What the users of some functions send.

    Attributes:
        calls: by function, sent in turn.
        checks: of the answers.
    """

    calls: Mapping[str, Sequence[LoadCall]]
    checks: Checks


Prepare = Callable[[str], UserCalls]
"""Returns what is sent to a server, by its URL; called once for each."""


class CallFailed(Exception):
    """A call without a right answer, as Locust counts it; the message says why."""


class _CallSender:
    """What the users of one process share: the open loop to a server, and whose turn it is.

    Mutable state: ``_turns``, the calls of each function from the next on; ``_numbers``.
    """

    def __init__(self, environment: Any, url: str, prepared: UserCalls) -> None:
        self._environment = environment
        self._url = url
        self._turns: dict[str, Iterator[LoadCall]] = {
            name: itertools.cycle(calls) for name, calls in prepared.calls.items()
        }
        self._numbers = itertools.count()
        self._loop = OpenLoop(
            Server(url),
            prepared.checks,
            self._report,
            began=0.0,
            most=CONNECTIONS,
            timeout_s=TIMEOUT_S,
            most_lag_s=LEAST_LAG_S,
            name=f"locust-{random.randrange(1 << 32):08x}",
        )
        gevent.spawn(self._loop.sweep)

    def send(self, function: str, due: float) -> Greenlet | None:
        """Send a function's next call, whose time has come; returns as ``OpenLoop.submit``."""
        return self._loop.submit(due, next(self._numbers), next(self._turns[function]))

    def _report(self, record: CallRecord, call: LoadCall, why: str) -> None:
        failure = None if record.is_right else CallFailed(_reason(record, why))
        self._environment.events.request.fire(
            request_type=call.method,
            name=call.name or call.function,
            response_time=record.latency_s * 1000,
            response_length=record.bytes_out,
            exception=failure,
            context={},
            start_time=time.time() - (time.monotonic() - record.intended),
            url=f"{self._url}{call.path}",
        )


class _CallSenders:
    """The senders of a process, one for each server.

    Mutable state: ``_by_url``, which the first user of each fills; the others wait for it.
    """

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._by_url: dict[str, _CallSender] = {}
        self._lock = RLock()

    def get(self, environment: Any, url: str) -> _CallSender:
        """The one for a server."""
        with self._lock:
            if url not in self._by_url:
                self._by_url[url] = _CallSender(environment, url, self._prepare(url))
            return self._by_url[url]


def _reason(record: CallRecord, why: str) -> str:
    """One for calls of one kind, so that Locust counts them together: no message of a server."""
    if record.status == 200 and why:
        return why
    return f"status {record.status}: {record.code}" if record.status else record.code


class FunctionUser(User):
    """Sends the calls of one function.

    Attributes:
        rate: calls a second, on average; None: each when the one before it is answered.
        function: its name.
        senders: of all users that were made together.
    """

    abstract = True
    host = HOST
    rate: float | None = 1.0
    function = ""
    senders: _CallSenders

    @task
    def send(self) -> None:
        """Calls, until the user is stopped."""
        sender = self.senders.get(self.environment, str(self.host).rstrip("/"))
        due = time.monotonic()
        while True:
            if self.rate is None:
                sending = sender.send(self.function, time.monotonic())
                gevent.sleep(0) if sending is None else sending.join()
                continue
            due += random.expovariate(self.rate)
            if (wait_s := due - time.monotonic()) > 0:
                gevent.sleep(wait_s)
            sender.send(self.function, due)


def make_users(
    functions: Sequence[str], prepare: Prepare, rate: float | None = FunctionUser.rate
) -> dict[str, type[FunctionUser]]:
    """A class of users for each function, by its name: ``EmbedUser`` of ``embed``.

    Args:
        rate: as of ``FunctionUser``.
    """
    senders, found = _CallSenders(prepare), dict[str, type[FunctionUser]]()
    for function in functions:
        words = "".join(part.capitalize() for part in _words(function))
        name = f"{words}User"
        members = {"function": function, "rate": rate, "senders": senders}
        found[name] = type(name, (FunctionUser,), members)
    # what was read for them took seconds that the loop has not seen: a run's time would lack them
    gevent.get_hub().loop.update_now()
    return found


def _words(function: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in function).split()
