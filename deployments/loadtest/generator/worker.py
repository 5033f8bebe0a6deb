"""A process that sends its part of a load test; ``workers`` starts it and reads what it writes.

    stdin    an order (pickled); ``go`` and the moment that is 0; ``stop``, or the end of it
    stdout   messages (msgpack): ``ready``; records and, once a second, how it is; ``end``

The moments are those of ``time.monotonic``, which all processes of a machine share. gevent's loop
waits by ``select`` here: by epoll it knows milliseconds alone, and each call would be sent half of
one late.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.setdefault("GEVENT_LOOP", "libev-cext")
    os.environ.setdefault("GEVENT_BACKEND", "select")

import gc
import math
import pickle
import resource
import sys
import time
from collections import Counter
from typing import Any, BinaryIO, Final

import gevent
import msgpack

from deployments.loadtest.calls.answers import AnswerChecks
from deployments.loadtest.calls.load_call import LoadCall
from deployments.loadtest.generator.connections import Server
from deployments.loadtest.generator.open_files import allow_files
from deployments.loadtest.generator.open_loop import SWEEP_S, OpenLoop
from deployments.loadtest.generator.plan import WorkerOrder
from deployments.loadtest.results.records import CallRecord

WRITE_S: Final = 0.05
"""Between two looks at records to be written: a few at once take no time that a call would see."""

KEPT_REASONS: Final = 100
"""Different ones that are counted."""

MOST_REASONS: Final = 5
"""That are told, the most frequent ones."""

STOP_S: Final = 5.0
"""Longest wait for calls under way once the load is to end before its time."""


class Worker:
    """Sends one part.

    Mutable state: ``_records`` to be written; ``_reasons``, what was wrong with calls, in words,
    and how often; ``_stop_at``, the moment after which no call is waited for.
    """

    def __init__(self, order: WorkerOrder, output: BinaryIO) -> None:
        self._order, self._output = order, output
        self._checks = AnswerChecks(order.plan.forms)
        self._records: list[CallRecord] = []
        self._reasons: Counter[str] = Counter()
        self._stop_at = math.inf

    def run(self, began: float, commands: BinaryIO) -> None:
        """Send everything, or as much as there is time for until a stop.

        Args:
            began: the moment that is 0, of ``time.monotonic``.
            commands: a line or its end asks for the end.
        """
        plan = self._order.plan
        loop = OpenLoop(
            Server(plan.url, plan.trust),
            self._checks,
            self._take,
            began=began,
            most=plan.connections,
            timeout_s=plan.timeout_s,
            most_lag_s=plan.most_lag_s,
            name=self._order.name,
        )
        sending = gevent.spawn(loop.follow, plan.schedule(self._order.part))
        helpers = [
            gevent.spawn(self._stop_on_command, commands, sending),
            gevent.spawn(loop.sweep),
            gevent.spawn(self._write_records),
            gevent.spawn(self._watch, loop, began),
        ]
        sending.join()
        loop.drain(plan.timeout_s + 2 * SWEEP_S + plan.rest_s, lambda: self._stop_at)
        gevent.killall(helpers, block=False)
        self._flush()
        fault = "" if sending.exception is None else repr(sending.exception)
        reasons = self._reasons.most_common(MOST_REASONS)
        counts = {"waited": loop.waited, "late": loop.late, "unsent": loop.unsent}
        self._write({"end": {**counts, "fault": fault, "reasons": reasons}})

    def _take(self, record: CallRecord, call: LoadCall, why: str) -> None:
        self._records.append(record)
        if why:
            reason = f"{call.function}: {record.code}: {why}"
            if len(self._reasons) < KEPT_REASONS or reason in self._reasons:
                self._reasons[reason] += 1

    def _stop_on_command(self, commands: BinaryIO, sending: Any) -> None:
        gevent.get_hub().threadpool.apply(commands.readline)
        self._stop_at = time.monotonic() + STOP_S
        sending.kill(block=False)

    def _write_records(self) -> None:
        while True:
            gevent.sleep(WRITE_S)
            self._flush()

    def _flush(self) -> None:
        if self._records:
            records = [tuple(record) for record in self._records]
            self._records.clear()
            self._write({"records": records})

    def _watch(self, loop: OpenLoop, began: float) -> None:
        used, at = _processor_s(), time.monotonic()
        while True:
            gevent.sleep(1.0)
            before, since, used, at = used, at, _processor_s(), time.monotonic()
            cpu = (used - before) / (at - since)
            self._write({"sample": [at - began, loop.take_lag(), cpu, loop.in_flight]})

    def _write(self, message: dict[str, Any]) -> None:
        self._output.write(msgpack.packb(message))
        self._output.flush()


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """The process."""
    commands, output = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what is printed by mistake is no message
    order: WorkerOrder = pickle.load(commands)
    allow_files()
    worker = Worker(order, output)
    gc.collect()
    gc.freeze()
    output.write(msgpack.packb({"ready": True}))
    output.flush()
    word, _, moment = commands.readline().partition(b" ")
    if word == b"go":
        worker.run(float(moment), commands)
    os._exit(0)  # a thread may still wait for a command


if __name__ == "__main__":
    main()
