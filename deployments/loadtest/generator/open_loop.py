"""The open loop: a call is sent when its time has come, and counts from then, whatever became of
those before it.

Each connection has a greenlet while it is used. A call whose time has come takes an idle connection
or opens one; at the most that there may be it waits, and the greenlet that is done first takes it.
So a stalled server costs no greenlet for each waiting call, and none is left out.

What the loop does besides (checking answers, writing records down) it does after the last byte of
an answer was noted. A greenlet that is late because of it is seen: ``lag``.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import gevent
import orjson
from gevent import Greenlet, GreenletExit

from deployments.loadtest.calls.answers import (
    WRONG,
    Checks,
    FailedAnswer,
    WrongAnswer,
    timing_at_end,
)
from deployments.loadtest.calls.load_call import LoadCall
from deployments.loadtest.generator.connections import (
    TIMEOUT,
    UNSENT,
    Answer,
    NoAnswer,
    Server,
    send,
)
from deployments.loadtest.results.records import ENDED, NO_ANSWER, CallRecord
from runtime.system.messages import clip

SWEEP_S: Final = 0.1
"""Between two looks at which calls have taken too long."""

_TIMING: Final = re.compile(
    r"(?<![\w-])([\w-]{1,40});dur=([0-9]{1,9}(?:\.[0-9]{0,20})?)(?![0-9.])", re.ASCII
)
"""A part of the server's time. A server writes what it likes: what is no number, or one of more
than nine digits, is passed over.
"""

LONGEST_STAGE_S: Final = 1e6
"""Of a part that a server names again and again; ``results.files`` takes no more."""

LONGEST_CODE: Final = 120
"""Characters of an error's code that are kept."""

STAGES: Final[Mapping[str, str]] = {
    "queue": "queue",
    "batch": "queue",
    "preprocess": "pre",
    "model": "model",
    "postprocess": "post",
    "wake": "cold",
}
"""The parts of ``CallRecord.stages`` by the names in ``Server-Timing``. What is ``cold`` there is a
whole cold start, with the computing of its first call.
"""

_SLEPT: Final = frozenset({"wake", "cold"})

_SAYS: Final = _SLEPT | {"total"}
"""One of them is in each ``Server-Timing`` of a function; what else is in it may be of a proxy."""

OnRecord = Callable[[CallRecord, LoadCall, str], object]
"""Is given each call with its record, and in words what was wrong with it; empty: nothing was, or
its code says it.
"""


class DueCall(NamedTuple):
    """A call and its time.

    Attributes:
        due: of ``time.monotonic``.
        number: of this call in the run, which no other has.
        has_waited: for a connection.
    """

    due: float
    number: int
    call: LoadCall
    has_waited: bool = False


class OpenLoop:
    """Sends calls to one server.

    Args:
        began: the moment that is 0 in records, of ``time.monotonic``.
        most: connections at once.
        timeout_s: from when a call was to be sent until it is given up.
        most_lag_s: a call that is sent later than this is ``late``.
        name: what the ids of sequences begin with, which no other sender has.

    Attributes:
        lag_s: the longest time that a call was sent too late though a connection was free, since
            it was last taken.
        waited: calls that waited for a connection so far.
        late: calls that were sent too late though a connection was free.
        unsent: calls for which this machine could open no connection.

    Mutable state: the attributes; ``_active``, the greenlets that use a connection, with the moment
    at which the call of each is given up; ``_waiting``, calls without a connection; ``_heads`` of
    requests.
    """

    def __init__(
        self,
        server: Server,
        checks: Checks,
        on_record: OnRecord,
        *,
        began: float,
        most: int,
        timeout_s: float,
        most_lag_s: float,
        name: str,
    ) -> None:
        self._server, self._checks, self._on_record = server, checks, on_record
        self._began, self._most, self._timeout_s, self._name = began, most, timeout_s, name
        self._active: dict[Greenlet, float] = {}
        self._waiting: deque[DueCall] = deque()
        self._heads: dict[int, bytes] = {}
        self._most_lag_s = most_lag_s
        self.lag_s = 0.0
        self.waited = self.late = self.unsent = 0

    @property
    def in_flight(self) -> int:
        """Calls whose time has come and that have no answer yet."""
        return len(self._active) + len(self._waiting)

    def submit(self, due: float, number: int, call: LoadCall) -> Greenlet | None:
        """Send a call whose time has come; returns what sends it, None while it waits for a
        connection.
        """
        if len(self._active) < self._most:
            greenlet = Greenlet(self._serve, DueCall(due, number, call))
            self._active[greenlet] = math.inf  # one that is ended before it runs records nothing
            greenlet.start()
            return greenlet
        self.waited += 1
        self._waiting.append(DueCall(due, number, call, has_waited=True))
        return None

    def take_lag(self) -> float:
        """The longest lag since the last time."""
        lag, self.lag_s = self.lag_s, 0.0
        return lag

    def follow(self, schedule: Iterable[tuple[float, int, LoadCall]]) -> None:
        """Send the calls of a schedule, each at its time.

        Args:
            schedule: seconds since the beginning, ascending; the number of the call; the call.
        """
        for at, number, call in schedule:
            due = self._began + at
            if (wait_s := due - time.monotonic()) > 0:
                gevent.sleep(wait_s)
            self.submit(due, number, call)

    def sweep(self) -> None:
        """Give up calls that have taken too long, again and again; a greenlet's work."""
        while True:
            gevent.sleep(SWEEP_S)
            self._give_up_late(time.monotonic())

    def drain(self, within_s: float, stop_at: Callable[[], float] = lambda: math.inf) -> None:
        """Wait for the calls under way, at most so long; the rest is given up.

        Args:
            stop_at: asked all the time: a moment of ``time.monotonic`` at which it ends the wait.
        """
        until = time.monotonic() + within_s
        gevent.sleep(0)  # those that were submitted last begin
        while self.in_flight and time.monotonic() < min(until, stop_at()):
            gevent.sleep(min(0.02, within_s))
        now = time.monotonic()
        while self._waiting:
            one = self._waiting.popleft()
            reason = TIMEOUT if one.due + self._timeout_s <= now else ENDED
            self._give_up(one, now, reason)
        self._give_up_late(now)
        gevent.killall(list(self._active), NoAnswer(ENDED), timeout=5)
        self._server.close()

    def _give_up_late(self, now: float) -> None:
        """Have the calls end that have taken too long."""
        for greenlet, until in list(self._active.items()):
            if until <= now:
                # asked once: it ends with its next switch
                self._active[greenlet] = math.inf
                greenlet.kill(NoAnswer(TIMEOUT), block=False)

    def _serve(self, first: DueCall) -> None:
        """Send a call, and then those that wait."""
        mine = gevent.getcurrent()
        one: DueCall | None = first
        try:
            while one is not None:
                self._active[mine] = one.due + self._timeout_s
                self._send_all(one, mine)
                one = self._waiting.popleft() if self._waiting else None
        except GreenletExit:
            pass
        finally:
            del self._active[mine]

    def _send_all(self, one: DueCall, mine: Greenlet) -> None:
        """Send a call, or the calls of its sequence one after another: each of these was to be sent
        when the one before it was answered.
        """
        count = one.call.sequence_calls
        if not count:
            self._send(one)
            return
        due = one
        for index in range(count):
            headers = {"x-sequence-id": f"{self._name}-{one.number}"}
            headers |= {"x-sequence-start": "1"} if index == 0 else {}
            headers |= {"x-sequence-end": "1"} if index == count - 1 else {}
            record = self._send(due, headers)
            if not record.is_right:  # the server may have forgotten the sequence
                return
            due = due._replace(due=self._began + record.done, has_waited=False)
            self._active[mine] = due.due + self._timeout_s

    def _send(self, one: DueCall, headers: Mapping[str, str] | None = None) -> CallRecord:
        """Send one call; whatever becomes of it, it has one record."""
        sent = time.monotonic()
        try:
            record, why = self._exchange(one, sent, headers)
        except NoAnswer as reason:
            self.unsent += str(reason) == UNSENT
            return self._give_up(one, sent, str(reason), reason.words)
        except Exception as error:  # a call without a record would let a promise hold
            words = f"unreadable answer: {type(error).__name__}: {error}"
            return self._give_up(one, sent, WRONG, clip(words))
        self._on_record(record, one.call, why)
        return record

    def _exchange(
        self, one: DueCall, sent: float, headers: Mapping[str, str] | None
    ) -> tuple[CallRecord, str]:
        """The record of a call that is answered, and in words what is wrong with its answer.

        Raises:
            NoAnswer: it has none.
        """
        if sent - one.due > self._timeout_s:  # it has waited for a connection all the time
            raise NoAnswer(TIMEOUT)
        if not one.has_waited:
            lag_s = sent - one.due
            self.lag_s = max(self.lag_s, lag_s)
            self.late += lag_s > self._most_lag_s
        connection = self._server.take()
        answer = send(self._server, connection, self._request(one.call, headers), one.call)
        if answer.done - one.due > self._timeout_s:  # it came before the next sweep
            raise NoAnswer(TIMEOUT)
        code, why = self._judge(one.call, answer)
        if code:  # a server says what it likes
            code, why = clip(code, LONGEST_CODE), clip(why)
        return self._record(one, sent, answer, code), why

    def _request(self, call: LoadCall, headers: Mapping[str, str] | None) -> bytes:
        if headers:
            return self._server.head_of(call, headers) + call.body
        key = id(call)  # calls live as long as the loop
        if key not in self._heads:
            self._heads[key] = self._server.head_of(call)
        return self._heads[key] + call.body

    def _give_up(self, one: DueCall, sent: float, reason: str, words: str = "") -> CallRecord:
        began, done = self._began, time.monotonic()
        record = CallRecord(
            one.call.function, one.due - began, sent - began, done - began, NO_ANSWER, reason
        )
        self._on_record(record, one.call, words)
        return record

    def _record(self, one: DueCall, sent: float, answer: Answer, code: str) -> CallRecord:
        began = self._began
        found = _TIMING.findall(answer.headers.get("server-timing", ""))
        if answer.first is not None and (whole := _TIMING.findall(timing_at_end(answer.body))):
            found = [*(part for part in found if part[0] in _SLEPT), *whole]
        names = {name for name, _ in found}
        stages = dict[str, float]()
        for name, milliseconds in found:
            if name in STAGES:
                stage = STAGES[name]
                so_far = stages.get(stage, 0.0) + float(milliseconds) / 1000
                stages[stage] = min(so_far, LONGEST_STAGE_S)
        return CallRecord(
            one.call.function,
            one.due - began,
            sent - began,
            answer.done - began,
            answer.status,
            code,
            not names & _SLEPT if names & _SAYS else None,
            None if answer.first is None else answer.first - began,
            stages,
            len(answer.body),
        )

    def _judge(self, call: LoadCall, answer: Answer) -> tuple[str, str]:
        """The code of an answer, and what is wrong with it in words; both empty for a right one."""
        if answer.status != 200:
            return read_error(answer.status, answer.body)
        try:
            self._checks.check(call, answer.body, answer.headers)
        except WrongAnswer as wrong:
            return WRONG, f"wrong answer: {wrong}"
        except FailedAnswer as failed:
            return str(failed) or WRONG, ""
        except Exception as error:  # an answer of an unknown form is a wrong one
            return WRONG, f"unreadable answer: {type(error).__name__}: {error}"
        return "", ""


def read_error(status: int, body: bytes) -> tuple[str, str]:
    """The code and the message of an error in Wakeful's form, or in OpenAI's, which routes by task
    have; of another, its status and its beginning.
    """
    try:
        error = orjson.loads(body)
        if isinstance(error["error"], dict):
            return str(error["error"]["code"]), str(error["error"]["message"])
        return str(error["code"]), str(error["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"http_{status}", body[:200].decode(errors="replace")
