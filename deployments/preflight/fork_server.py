"""One process with everything imported, which forks a process for each load: a fork takes
milliseconds, a start a second.

It reads the functions and the settings from its standard input, and writes what each load found to
its standard output, pickled. Its processes are ``multiprocessing``'s. Its fork server is not: that
one has the environment of the process which needs it first, though glibc reads a replica's
``MALLOC_ARENA_MAX`` when a process starts, and it cannot be ended, so that its memory would be held
for as long as `up` stays.

Theory of the bounds: a load is ended, with all processes of its group, at its time limit and when
its memory passes the limit. If all loads together pass the limit, the largest is ended to run
later, and from then on loads run one at a time. The standard input of the server stays open for as
long as results are wanted: at its end the server ends all loads and itself. If the server dies, the
system ends them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Collection
from multiprocessing.connection import Connection, wait
from typing import Any, Final

import psutil

from deployments.preflight import load_job
from runtime.declaration.function_spec import FunctionSpec
from runtime.onnx.installed_build import is_installed
from runtime.settings import Settings
from runtime.system import memory
from runtime.system.cores import usable_cores
from runtime.system.memory import Footprint, free_bytes
from runtime.system.parent_process import end_with_parent

POLL_S: Final = 0.02
"""Between two measurements of the loads' memory: filling it, a core gets a hundred megabytes
further meanwhile.
"""

WRITTEN_BYTES: Final = 32 * 1024
"""The last bytes that a load wrote; ``tail`` shows ``LINES`` of them, or ``FRAMES`` of a crash."""

LINES: Final = 8
FRAMES: Final = 6
WIDTH: Final = 160

_DUMPS: Final = ("Fatal Python error", "Timeout (")
"""What faulthandler begins with; the frames that matter follow, the others come after them."""

_FORK: Final = multiprocessing.get_context("fork")  # the server has one thread


def serve() -> None:
    """The server's process, until all loads are done or its standard input ends; ``sys.path`` is
    set already.
    """
    specs, settings = pickle.load(sys.stdin.buffer)
    is_installed()  # imports ONNX Runtime once, not in each load
    gc.collect()
    # a collection in a load would write to every object of this process, and so copy them all
    gc.freeze()
    limit = (
        settings.probe_memory_mb * 1_000_000
        if settings.probe_memory_mb is not None
        else free_bytes()
    )
    parallel = usable_cores()
    began: dict[int, float] = {}
    waiting = deque(enumerate(specs))
    running: list[Load] = []
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                index, spec = waiting.popleft()
                began.setdefault(index, time.monotonic())
                running.append(
                    Load(index, spec, settings, prepares=not load_job.is_prepared(spec, settings))
                )
            ready = wait([0, *(end for load in running for end in load.ends)], POLL_S)
            if 0 in ready:
                return
            held = [load.bound(ready, settings.probe_timeout_s, limit) for load in running]
            if (
                sum(held) > limit
                and len(running) > 1
                and not (largest := running[held.index(max(held))]).ended_for
            ):
                parallel = 1
                waiting.append((largest.index, largest.spec))
                running.remove(largest)
                largest.close()
            for load in [load for load in running if load.has_ended()]:
                running.remove(load)
                result = load.close()
                if load.prepares:  # well or not: the load decides
                    running.append(Load(load.index, load.spec, settings, prepares=False))
                else:
                    pickle.dump(
                        (load.index, {"took_s": time.monotonic() - began[load.index], **result}),
                        sys.stdout.buffer,
                    )
                    sys.stdout.buffer.flush()
    finally:
        for load in running:
            load.end()


class Load:
    """A process that loads a function, or only prepares its models.

    Mutable state: ``ends`` (its pipes that are open), ``ended_for`` (why it was ended), ``_result``
    (once it came), ``_written`` (the last of what it wrote).
    """

    def __init__(
        self, index: int, spec: FunctionSpec, settings: Settings, *, prepares: bool
    ) -> None:
        self.index, self.spec, self.prepares = index, spec, prepares
        self.ended_for = ""
        self._began = time.monotonic()
        self._result: dict[str, Any] | None = None
        self._written = bytearray()
        self._oom_kills = memory.read_oom_counts(memory.oom_counter_files())
        (self._results, result), (self._output, output) = (
            _FORK.Pipe(duplex=False),
            _FORK.Pipe(duplex=False),
        )
        self.ends = {self._results, self._output}
        self._process = _FORK.Process(target=_run, args=(spec, settings, prepares, result, output))
        self._process.start()
        self._pid: int = self._process.pid  # type: ignore[assignment]
        result.close()
        output.close()

    def bound(self, ready: Collection[Any], timeout_s: float, limit: int) -> int:
        """Reads its pipes, and ends it if it is past a limit; returns its own memory in bytes,
        without that of its children.
        """
        for end in self.ends & set(ready):
            self._read(end)
        try:
            held = Footprint.of(self._pid).own_bytes
        except psutil.Error:
            held = 0
        if time.monotonic() - self._began > timeout_s:
            self.end(
                f"it was still loading after {timeout_s:g} s. If it needs longer, raise "
                "WAKEFUL_PROBE_TIMEOUT_S."
            )
        elif held > limit:
            self.end(
                f"loading it took more than the {limit / 1e6:.0f} MB of memory that there are for "
                f"it ({held / 1e6:.0f} MB when it was ended). Make it smaller (max_batch_size is "
                "warmed up), free memory, or set WAKEFUL_PROBE_MEMORY_MB if you know better."
            )
        return held

    def _read(self, end: Connection) -> None:
        try:
            if end is self._results:
                self._result = end.recv()
            else:
                data = os.read(end.fileno(), 1 << 16)  # as much as a pipe holds
                self._written = (self._written + data)[-WRITTEN_BYTES:]
                if not data:
                    self.ends.discard(end)
        except EOFError:
            self.ends.discard(end)

    def has_ended(self) -> bool:
        """Whether its result has come, or none will come."""
        if self._result is not None:
            return True
        try:
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            # multiprocessing has waited for it already, as it does for all that have ended whenever
            # it starts another process; `end` a moment later finds at most what it left running
            return True

    def end(self, why: str = "") -> None:
        """Kills it and what it started."""
        self.ended_for = self.ended_for or why
        for kill in (os.killpg, os.kill):  # before it has its group, it alone
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self._pid, signal.SIGKILL)

    def close(self) -> dict[str, Any]:
        """Ends what is left of it; returns its result, or an ``error``."""
        self.end()  # its id is its own until it is waited for
        self._process.join()
        for end in self.ends & set(wait(list(self.ends), 0)):
            self._read(end)
        for end in (self._results, self._output):
            end.close()
        if self._result is not None and not self.ended_for:
            result = self._result
        else:
            status = self._process.exitcode or 0
            result = {
                "error": self.ended_for
                or explain_exit(status, out_of_memory=memory.oom_killed_since(self._oom_kills))
            }
        return (
            {**result, "error": with_tail(result["error"], self._written)}
            if "error" in result
            else result
        )


def _run(
    spec: FunctionSpec, settings: Settings, prepares: bool, result: Connection, output: Connection
) -> None:
    """Runs in the fork; ``multiprocessing`` prints what is raised and makes an exit code of it."""
    os.setsid()
    end_with_parent(signal.SIGKILL)  # no process bounds a load whose server was killed
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable(sys.stderr)
    if prepares:
        load_job.prepare_models(spec, settings)
        result.send({})
    else:
        result.send(load_job.load(spec, settings, settings.probe_timeout_s))


def explain_exit(status: int, *, out_of_memory: bool) -> str:
    """Why a process ended without a result.

    Args:
        status: its exit code; the negative number of a signal.
        out_of_memory: the system ended some process for want of memory while this one ran.
    """
    if status >= 0:
        return (
            f"its process ended with exit status {status} while it was loading: something in it "
            "calls exit."
        )
    if -status == signal.SIGKILL and out_of_memory:
        return "its process was ended by the system while it was loading: out of memory."
    description = signal.strsignal(-status)
    return f"its process died of {signal_name(-status)} ({description}) while it was loading."


def signal_name(number: int) -> str:
    """``SIGSEGV``; of a signal without a name, as most real-time ones are, ``signal 40``."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def tail(written: bytes | bytearray) -> str:
    """The most useful lines that a process wrote: where it crashed or hung, or its last lines."""
    lines = [
        line.rstrip()[:WIDTH]
        for line in written.decode(errors="replace").splitlines()
        if line.strip(" \t^~")
    ]
    start = next((index for index, line in enumerate(lines) if line.startswith(_DUMPS)), None)
    return "\n".join(lines[start : start + FRAMES] if start is not None else lines[-LINES:])


def with_tail(message: str, written: bytes | bytearray) -> str:
    """The message, with the last lines that the process wrote, if any."""
    last = tail(written)
    return f"{message} It wrote:\n{last}" if last else message
