"""``wakeful run --workers``: one process starts HAProxy and the processes that serve, and keeps
them running.

Theory of operation. This process has imported the engine and nothing of the project, so that a fork
of it starts in milliseconds and imports the project's modules itself; it has one thread, since it
forks. It keeps the listening sockets, which HAProxy inherits (``front``): HAProxy, too, is started
again without a caller being refused. The first process loads alone: what is wrong with the file or
its functions is said once, and models are prepared once. Then the others load, all at once, and the
port is open from the first one on.

A process that ends is replaced: at once, and with growing waits when its place does not come to
rest (``process_crashes``). One whose event loop has not run for ``SILENT_S`` gets no new calls, and
after ``HUNG_S`` it is killed, and its calls are sent again as those of any that dies.

The end: HAProxy refuses new requests while the processes answer what they have, then it closes the
port, and the processes end. If this process dies, the system tells HAProxy and the processes, and
they end by themselves (``end_with_parent``, and the end of the pipe).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from deployments.local.front import Front
from deployments.local.process_crashes import ProcessCrashes, count_recent, restart_wait_s
from deployments.local.process_link import (
    ANNOUNCE,
    CAPTURED,
    GROUP,
    LEAVING,
    PINNED,
    SERVING,
    GroupState,
    ProcessLink,
    crash_folder,
)
from runtime.declaration.function_spec import DeclaredSpec
from runtime.library.capture.captures import Order
from runtime.system.child_processes import end_with_parent, run_and_exit, signal_name

POLL_S: Final = 0.25
"""Between two looks at what tells nothing by itself: waits, silence, signals."""

SILENT_S: Final = 5.0
"""After so long without a word a process gets no new calls: its loop is held, by a stage that is
``async`` and waits without ``await``, say.
"""

HUNG_S: Final = 60.0
"""After so long it is killed: what holds the interpreter lock while it works, such as the load of a
large pickle, ends sooner.
"""

END_S: Final = 2.0
"""Beyond the drain time, for processes to close what they have."""

MOST_ENDS: Final = 20
"""Ends of the processes of a place that are remembered."""

INTERRUPTED: Final = 130


@dataclass(eq=False, slots=True)
class ServingProcess:
    """A process that serves, as its supervisor knows it.

    Attributes:
        pidfd: readable once it has ended.
        pipe: to its ``ProcessLink``.
        port: at which it accepts connections; None: it does not.
        heard_at: its last word, seconds of ``time.monotonic``.
        has_served: it has accepted connections.
    """

    pid: int
    pidfd: int
    pipe: Connection
    heard_at: float
    port: int | None = None
    has_served: bool = False

    def close(self) -> None:
        """Of a process that has ended."""
        self.pipe.close()
        os.close(self.pidfd)


@dataclass(eq=False, slots=True)
class Place:
    """One of the processes, and those that were there before.

    Attributes:
        process: the newest one; None: none runs.
        leaving: former ones that still answer what they have.
        ends: when processes of this place ended, seconds of ``time.monotonic``.
        start_at: when the next is to be started, where none runs.
    """

    number: int
    process: ServingProcess | None = None
    leaving: list[ServingProcess] = field(default_factory=list)
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_ENDS))
    start_at: float = 0.0

    @property
    def processes(self) -> list[ServingProcess]:
        """All of them."""
        return [*([self.process] if self.process is not None else []), *self.leaving]


class Supervisor:
    """Keeps the processes of a run, and HAProxy, running.

    Args:
        serve: runs in a fork: loads and serves until its end, and returns its exit status. It
            prints why it fails.
        processes: their number.
        folder: of the run.
        functions: that they serve.
        front: started and closed here.
        drain_s: longest time that calls under way have at the end.
        report: prints a line.

    Mutable state: ``_places``; ``_crashes``; ``_pinned`` (names); ``_captured`` (orders of
    operators); ``_is_announced`` (all have served at once).
    """

    def __init__(
        self,
        serve: Callable[[ProcessLink], int],
        processes: int,
        folder: Path,
        functions: Iterable[DeclaredSpec],
        front: Front,
        drain_s: float,
        report: Callable[[str], None],
    ) -> None:
        self._serve = serve
        self._folder = folder
        self._front = front
        self._drain_s = drain_s
        self._report = report
        self._places = [Place(number) for number in range(processes)]
        self._crashes = ProcessCrashes(crash_folder(folder), functions)
        self._pinned: set[str] = set()
        self._captured: dict[str, Order] = {}
        self._is_announced = False

    def run(self, signal_count: Callable[[], int]) -> int:
        """Serve until a signal was counted, drain, and return the exit status; a second signal ends
        all at once. Blocking, on the only thread of this process.

        Raises:
            FrontFailed: HAProxy does not start.
        """
        gc.collect()
        gc.freeze()  # a collection in a fork would copy every object of this process
        try:
            self._start(self._places[0])
            while not signal_count():
                self._listen()
                if signal_count():
                    break
                status = self._look()
                if status is not None:
                    return status
            return self._drain(signal_count)
        finally:
            for place in self._places:
                for process in place.processes:
                    _kill(process)
            self._front.kill()

    # What happens.

    def _listen(self) -> None:
        """Read what processes say, for the time between two looks; the end of one wakes this."""
        pipes = {
            process.pipe: (place, process)
            for place in self._places
            for process in place.processes
            if not process.pipe.closed
        }
        ends = [process.pidfd for place in self._places for process in place.processes]
        for ready in wait([*pipes, *ends], POLL_S):
            if not isinstance(ready, Connection):
                continue
            place, process = pipes[ready]
            try:
                kind, data = ready.recv()
            except (EOFError, OSError):  # it is ending
                ready.close()
            else:
                self._on_message(place, process, kind, data)

    def _on_message(self, place: Place, process: ServingProcess, kind: str, data: Any) -> None:
        process.heard_at = time.monotonic()
        if kind == SERVING:
            process.port, process.has_served = data, True
            self._front.set_port(place.number, data)
            if self._front.pid is None:
                self._front.start()
            self._tell_group()
            self._announce()
        elif kind == LEAVING and process is place.process:
            self._front.set_port(place.number, None)
            self._report(f"{self._name(place, process)} ends; another one takes its place.")
            place.leaving.append(process)
            place.process = None
            place.ends.append(time.monotonic())
            self._plan_start(place)
        elif kind == PINNED:
            name, is_pinned = data
            (self._pinned.add if is_pinned else self._pinned.discard)(name)
            self._tell_group()
        elif kind == CAPTURED:
            name, order = data
            self._captured.pop(name, None)
            if order is not None:
                self._captured[name] = order
            self._tell_group()

    def _look(self) -> int | None:
        """Act on what has ended, hangs, or is due. Return the exit status where there is nothing to
        serve.
        """
        for place in self._places:
            for process in place.processes:
                pid, status = os.waitpid(process.pid, os.WNOHANG)
                if pid:
                    process.close()
                    code = self._on_end(place, process, os.waitstatus_to_exitcode(status))
                    if code is not None:
                        return code
        now = time.monotonic()
        for place in self._places:
            self._look_at_silence(place, now)
            is_due = place.process is None and now >= place.start_at
            if is_due and self._front.pid is not None:
                self._start(place)
        self._front.look(self._report)
        return None

    def _on_end(self, place: Place, process: ServingProcess, status: int) -> int | None:
        """Act on the end of a process; ``status`` is negative for a signal. Return the exit status
        where the first of all has not come to serve.
        """
        if status:
            self._crashes.read()
        if process in place.leaving:
            place.leaving.remove(process)
            return None
        place.process = None
        if self._front.pid is None:
            if status < 0:
                self._report(f"the first process died of {signal_name(-status)} while it loaded.")
            return status if status > 0 else 1
        self._front.set_port(place.number, None)
        place.ends.append(time.monotonic())
        self._plan_start(place)
        died = f"died of {signal_name(-status)}" if status < 0 else f"ended with status {status}"
        after = place.start_at - time.monotonic()
        when = f"in {after:.1f} s" if after > 0 else "now"
        self._report(f"{self._name(place, process)} {died}; another one is started {when}.")
        self._tell_group()
        return None

    def _look_at_silence(self, place: Place, now: float) -> None:
        """A process that does not say that it lives."""
        process = place.process
        if process is None or not process.has_served:
            return
        silent_s = now - process.heard_at
        if silent_s > HUNG_S:
            self._report(
                f"{self._name(place, process)} has hung for {HUNG_S:g} s, and is killed. An "
                "`async` stage that waits without `await` does that."
            )
            os.kill(process.pid, signal.SIGKILL)
        elif silent_s > SILENT_S:
            self._front.set_port(place.number, None)
        else:
            self._front.set_port(place.number, process.port)

    # What is done.

    def _name(self, place: Place, process: ServingProcess) -> str:
        return f"process {place.number + 1} of {len(self._places)} ({process.pid})"

    def _plan_start(self, place: Place) -> None:
        place.start_at = time.monotonic() + restart_wait_s(count_recent(place.ends))

    def _start(self, place: Place) -> None:
        ours, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent, pid = os.getpid(), os.fork()
        if not pid:
            ours.close()
            for other in self._places:
                for process in other.processes:
                    process.close()  # its other end sees the end of this process
            link = ProcessLink(
                theirs,
                place.number,
                len(self._places),
                self._folder,
                is_first=self._front.pid is None,
                secret=self._front.secret,
            )
            run_and_exit(lambda: self._run_fork(link, parent))
        theirs.close()
        place.process = ServingProcess(pid, os.pidfd_open(pid), ours, time.monotonic())

    def _run_fork(self, link: ProcessLink, parent: int) -> int:
        """The life of a process, in a group of its own: Ctrl-C is for the supervisor."""
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        end_with_parent(signal.SIGTERM)
        self._front.forget()
        if os.getppid() != parent:
            return 1
        importlib.invalidate_caches()
        return self._serve(link)

    def _tell_group(self) -> None:
        """Tell each process that serves what holds for all."""
        serving = {
            place.number: process.port
            for place in self._places
            if (process := place.process) is not None and process.port is not None
        }
        group = GroupState(
            serving, self._crashes.quarantined, frozenset(self._pinned), dict(self._captured)
        )
        for place in self._places:
            if place.number in serving and place.process is not None:
                _send(place.process, GROUP, group)

    def _announce(self) -> None:
        """Once all serve, have one of them print where."""
        serving = [place.process for place in self._places if place.process is not None]
        if not self._is_announced and sum(one.has_served for one in serving) == len(self._places):
            self._is_announced = True
            _send(serving[0], ANNOUNCE, None)

    def _drain(self, signal_count: Callable[[], int]) -> int:
        """Have all that was taken answered, within the drain time, then end."""
        until = time.monotonic() + self._drain_s
        self._front.drain(until, signal_count)
        processes = [process for place in self._places for process in place.processes]
        for process in processes:
            process.pipe.close()
            if not process.has_served:  # it does not look at its pipe yet
                os.kill(process.pid, signal.SIGTERM)
        until = max(until, time.monotonic()) + END_S
        while processes and signal_count() < 2 and time.monotonic() < until:
            ended = wait([process.pidfd for process in processes], POLL_S)
            processes = [process for process in processes if process.pidfd not in ended]
        return INTERRUPTED if signal_count() > 1 else 0


def _send(process: ServingProcess, kind: str, data: object) -> None:
    with contextlib.suppress(OSError):  # it died meanwhile
        process.pipe.send((kind, data))


def _kill(process: ServingProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, 0)
    process.close()
