"""Other processes that keep cores busy with a function, while it is measured beside them.

Cores share caches, memory and, as two threads of one core do, what computes: a batch beside others
takes longer than alone. They are processes and no threads, as replicas are.

    parent                               neighbour
    sys.path, (spec, settings, row)  ->  loads it
                                     <-  READY
                                         calls it again and again, until its input ends
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from deployments.scaling.planning.calling import call_at_once
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError
from runtime.execution.function import Function
from runtime.settings import Settings
from runtime.system.child_processes import end_by_closing
from runtime.system.secrets import Secrets, reference_names
from runtime.system.telemetry.counters import FunctionCounters

READY: Final = b"ready\n"

START_S: Final = 120.0
"""Longest wait for all of them; each loads what was loaded before, all at once."""

END_S: Final = 5.0

_START: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from deployments.scaling.planning.neighbours import keep_busy; keep_busy()"
)


@contextmanager
def busy_neighbours(
    spec: FunctionSpec, settings: Settings, row: Mapping[str, Any], count: int
) -> Iterator[None]:
    """So many processes that call a function all the time, within the block; blocking.

    Raises:
        LoadError: one ended, or was not ready in time.
    """
    secrets = Secrets(
        **settings.secrets.given(reference_names(stage.with_ for stage in spec.graph))
    )
    given = pickle.dumps(sys.path) + pickle.dumps(
        (spec, replace(settings, secrets=secrets), dict(row))
    )
    until = time.monotonic() + START_S
    with ExitStack() as stack:
        started = [stack.enter_context(_neighbour(given)) for _ in range(count)]
        for process in started:
            _wait_ready(process, until)
        yield


@contextmanager
def _neighbour(given: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """One of them, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it ended: it will not be ready
            process.stdin.write(given)
            process.stdin.flush()
        yield process
    finally:
        end_by_closing(process, END_S)


def _wait_ready(process: subprocess.Popen[bytes], until: float) -> None:
    assert process.stdout is not None
    left_s = max(0.0, until - time.monotonic())
    if select.select([process.stdout], [], [], left_s)[0] and process.stdout.readline() == READY:
        return
    raise LoadError("a process that was to run beside the function did not load it.")


def keep_busy() -> None:
    """What a neighbour does. What the function prints goes nowhere."""
    spec, settings, row = pickle.load(sys.stdin.buffer)
    with os.fdopen(os.dup(1), "wb") as output, Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        asyncio.run(_call_until_end(spec, settings, row, output))


async def _call_until_end(
    spec: FunctionSpec, settings: Settings, row: Mapping[str, Any], output: BinaryIO
) -> None:
    has_ended = threading.Event()

    def wait_end() -> None:
        sys.stdin.buffer.read()
        has_ended.set()

    workers = Workers(1)
    try:
        function = await Function.load(
            spec, settings, workers=workers, counters=FunctionCounters(spec.name)
        )
        try:
            await call_at_once(function, row, 1)
            threading.Thread(target=wait_end, daemon=True).start()
            output.write(READY)
            output.flush()
            while not has_ended.is_set():
                await call_at_once(function, row, 1)
        finally:
            await function.close(END_S)
    finally:
        await asyncio.to_thread(workers.close, END_S)
