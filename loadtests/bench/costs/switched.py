"""The ``wakeful`` command, which changes while it answers how its calls are seen: nothing is
counted, then metrics alone, then the access log too, then traces. So what each costs is compared
within one process: of processes that were all the same, one was 2 % and more faster than another
for as long as it lived.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from deployments.cli import main
from runtime.http.exchange import Request
from runtime.system.telemetry.counters import FunctionCounters, ProcessCounters

SLICES: Final = "LOADTESTS_SLICES"
"""The variable that names the file of slices."""

NOTHING: Final = "nothing is counted"
METRICS: Final = "metrics"
LOG: Final = "metrics and access log"
TRACES: Final = "metrics, access log, traces at 1 %"
KINDS: Final = (NOTHING, METRICS, LOG, TRACES)

SETTLE_S: Final = 1.0
"""What was answered before a change is written meanwhile, and counts for neither."""

SLICE_S: Final = 2.0


class Slice(NamedTuple):
    """A stretch of time with one way of being seen; a line of the file, as JSON.

    Attributes:
        began, ended: seconds of ``time.monotonic``.
        answered: requests.
        busy_s: seconds of processor of the whole process.
    """

    kind: str
    began: float
    ended: float
    answered: int
    busy_s: float


class Switch:
    """Changes the way, in a thread, without an end.

    Mutable state: ``answered`` (the event loop adds) and ``_told``, what the process would call
    with each call that is over.
    """

    def __init__(self) -> None:
        self.answered = 0
        self._told: tuple[ProcessCounters, Any, Any] | None = None
        self._tell = ProcessCounters.tell
        self._end = Request.end
        self._counting = [
            (Request, "count_as_call", Request.count_as_call),
            (FunctionCounters, "record_batch", FunctionCounters.record_batch),
        ]
        setattr(ProcessCounters, "tell", lambda *told: self._keep(*told))  # noqa: B010
        setattr(Request, "end", lambda request: self._on_end(request))  # noqa: B010

    def run(self, into: Path) -> None:
        """Write a line for each slice."""
        turns = deque(KINDS)
        with into.open("ab", buffering=0) as file:
            while True:
                for kind in turns:
                    self._take(kind)
                    time.sleep(SETTLE_S)
                    began, answered, busy_s = time.monotonic(), self.answered, time.process_time()
                    time.sleep(SLICE_S)
                    done, busy_s = self.answered - answered, time.process_time() - busy_s
                    line = Slice(kind, began, time.monotonic(), done, busy_s)
                    file.write(orjson.dumps(list(line)) + b"\n")
                turns.rotate()  # none is always the first, or after the same one

    def _take(self, kind: str) -> None:
        for counted, method, own in self._counting:
            setattr(counted, method, _nothing if kind == NOTHING else own)
        if self._told is not None:
            counters, on_answered, begin_trace = self._told
            self._tell(
                counters,
                on_answered if kind in (LOG, TRACES) else None,  # type: ignore[arg-type]
                begin_trace if kind == TRACES else None,
            )

    def _keep(self, counters: ProcessCounters, on_answered: Any, begin_trace: Any) -> None:
        self._told = counters, on_answered, begin_trace

    def _on_end(self, request: Request) -> None:
        self.answered += 1
        self._end(request)


def _nothing(*_: object) -> None:
    """Counts nothing."""


if __name__ == "__main__":
    slices = Path(os.environ[SLICES])
    threading.Thread(target=Switch().run, args=(slices,), daemon=True).start()
    main()
