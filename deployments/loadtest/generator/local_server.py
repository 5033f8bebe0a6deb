"""A server on this machine: ``wakeful run`` of a file for as long as a load test lasts, and what
its processes use.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import psutil

from deployments.loadtest.refusal import LoadTestRefused
from deployments.local.runs import live_runs
from deployments.ray_support.processes import cluster_processes
from deployments.ray_support.state_dir import StateDir
from runtime.system.child_processes import ending_with_parent, wait_or_kill

START_S: Final = 600.0
"""Longest wait for the port: models may be built before it opens."""

DRAIN_S: Final = 60.0
"""Longest wait for its end, which drains."""

TAIL: Final = 15
"""Lines of what it wrote that are shown when it does not serve."""

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

Processes = Callable[[], Sequence[psutil.Process]]
"""Returns the processes of a server that live now."""


class LocalServer(NamedTuple):
    """A ``wakeful run`` that serves.

    Attributes:
        pid: of its first process.
    """

    url: str
    pid: int


@contextlib.contextmanager
def serve_file(
    file: Path,
    more: Sequence[str] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[LocalServer]:
    """``wakeful run FILE`` on a free port until the block ends; nothing of it is left then.

    Args:
        more: options of ``wakeful run``.
        variables: of its environment, beside those of this process.

    Raises:
        LoadTestRefused: it does not serve.
        KeyboardInterrupt: ``should_stop`` while it is waited for.
    """
    command = [sys.executable, "-m", "deployments.cli", "run", str(file), "--port", "0", "--json"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*command, *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **variables},
            start_new_session=True,  # Ctrl-C is for the load test, which ends it
            preexec_fn=ending_with_parent(signal.SIGTERM),  # a load test that is killed cannot
        )
        events: SimpleQueue[str] = SimpleQueue()
        reader = threading.Thread(target=_pass_on, args=(process, events), daemon=True)
        reader.start()
        try:
            url = _wait_until_serving(process, events, should_stop)
            if url is None:
                errors.seek(0)
                raise _not_serving(process, file, errors.read().decode(errors="replace"))
            yield LocalServer(url, process.pid)
        finally:
            _end(process)
            reader.join(1.0)
            assert process.stdout is not None
            process.stdout.close()


def _pass_on(process: subprocess.Popen[str], events: SimpleQueue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        events.put(line)


def _wait_until_serving(
    process: subprocess.Popen[str], events: SimpleQueue[str], should_stop: Callable[[], bool]
) -> str | None:
    """The URL that it serves at; None: it does not come to that."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if should_stop():
            raise KeyboardInterrupt
        try:
            event = json.loads(events.get(timeout=0.1))
        except Empty:
            if process.poll() is not None:
                return None
            continue
        except ValueError:
            continue
        if event.get("event") == "serving":
            return str(event["url"])
    return None


def _not_serving(process: subprocess.Popen[str], file: Path, text: str) -> LoadTestRefused:
    status = process.poll()
    how = "does not serve yet" if status is None else f"ended with {status}"
    tail = "\n".join(text.strip().splitlines()[-TAIL:])
    return LoadTestRefused(f"`wakeful run {file}` {how}.\n{tail}".rstrip())


def _end(process: subprocess.Popen[str]) -> None:
    """Drain it; it and what it started are killed where that takes too long."""
    family = _family(process.pid)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    wait_or_kill(process, DRAIN_S)
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that it started, those that live."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def processes_behind(url: str) -> Processes | None:
    """The processes of a server of this user on this machine; None: it is elsewhere, or none that
    is known here.
    """
    if urlsplit(url).hostname not in LOOPBACK:
        return None
    state_dir, port = StateDir(), urlsplit(url).port
    for run in live_runs(state_dir):
        if urlsplit(run.url).port == port:
            return lambda: _family(run.pid)
    up = state_dir.load()
    if up is not None and urlsplit(up.url).port == port:
        return lambda: cluster_processes(state_dir.path)
    return None


def processes_of(server: LocalServer) -> Processes:
    """The processes of a ``wakeful run`` that was started here."""
    return lambda: _family(server.pid)


class ProcessorMeter:
    """Processor seconds that a server's processes use, those of its ended ones included.

    Mutable state: by process, what it had used at the first look and at the last.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._first: dict[tuple[int, float], float] = {}
        self._last: dict[tuple[int, float], float] = {}
        self._has_looked = False

    def look(self) -> None:
        """Read what they have used so far."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                key, used = (process.pid, process.create_time()), times.user + times.system
                # one that came meanwhile has used it all meanwhile
                self._first.setdefault(key, 0.0 if self._has_looked else used)
                self._last[key] = used
        self._has_looked = True

    @property
    def seconds(self) -> float:
        """Used between the first look and the last."""
        return sum(used - self._first[key] for key, used in self._last.items())
