"""The processes that send: started, told when to begin, read, and ended whatever happens."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import msgpack

from deployments.loadtest.generator.plan import LoadPlan, WorkerOrder
from deployments.loadtest.results.records import CallRecord, GeneratorSample

READY_S: Final = 60.0
"""Longest wait for a process that is to send."""

LEAD_S: Final = 0.1
"""From when the processes are told to when they begin."""

END_S: Final = 5.0
"""Longest wait for one that was killed."""

READ_BYTES: Final = 1 << 16

MODULE: Final = "deployments.loadtest.generator.worker"

OnRecords = Callable[[Sequence[CallRecord]], object]


class GeneratorFailed(Exception):
    """A process that sends ended before its time; the message has the end of what it wrote."""


class GeneratorProcesses:
    """The processes of one load test; a context manager, after which none is left.

    Args:
        on_records: called with records as they come, in threads of this object's, one at a time.

    Attributes:
        began: the moment that is 0 in records, of ``time.monotonic``; 0 before ``begin``.
        waited: calls that waited for a connection.
        late: calls that were sent too late though a connection was free.
        unsent: calls for which this machine could open no connection.
        reasons: what was wrong with calls, in words, and how often.

    Mutable state: the attributes; ``_workers``; ``_samples``, which the readers add to.
    """

    def __init__(self, plan: LoadPlan, on_records: OnRecords) -> None:
        self._plan, self._on_records = plan, on_records
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._samples: list[GeneratorSample] = []
        self.began = 0.0
        self.waited = self.late = self.unsent = 0
        self.reasons: Counter[str] = Counter()

    def __enter__(self) -> Self:
        try:
            name = uuid.uuid4().hex[:8]
            for part in range(self._plan.processes):
                order = WorkerOrder(self._plan, part, f"{name}-{part}")
                self._workers.append(_Worker(order, self._take))
            for worker in self._workers:
                worker.wait_until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.close()

    def begin(self) -> None:
        """Have all of them begin at one moment."""
        self.began = time.monotonic() + LEAD_S
        for worker in self._workers:
            worker.tell(f"go {self.began!r}\n")

    def stop(self) -> None:
        """Have them send no more calls, and give up those under way after a moment."""
        for worker in self._workers:
            worker.tell("stop\n")

    @property
    def is_done(self) -> bool:
        """All of them have ended, and everything that they wrote is read.

        Raises:
            GeneratorFailed: one ended before its time.
        """
        return all(worker.is_done for worker in self._workers)

    @property
    def samples(self) -> list[GeneratorSample]:
        """How the processes were, second by second, taken together: the longest lag, the share of
        the busiest, calls under way of all.
        """
        with self._lock:
            found = list(self._samples)
        by_second: dict[int, list[GeneratorSample]] = {}
        for sample in sorted(found):
            by_second.setdefault(round(sample.at), []).append(sample)
        return [
            GeneratorSample(
                max(one.at for one in of),
                max(one.lag_s for one in of),
                max(one.cpu for one in of),
                sum(one.in_flight for one in of),
            )
            for of in by_second.values()
        ]

    def _take(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            if "records" in message:
                self._on_records([_record_of(one) for one in message["records"]])
            elif "sample" in message:
                self._samples.append(GeneratorSample(*message["sample"]))
            elif "end" in message:
                self.waited += message["end"]["waited"]
                self.late += message["end"]["late"]
                self.unsent += message["end"]["unsent"]
                self.reasons.update(dict(message["end"]["reasons"]))


def _record_of(message: list[Any]) -> CallRecord:
    """A record as it was sent. Names and codes are few, and each is kept once."""
    function, intended, sent, done, status, code, *rest = message
    return CallRecord(sys.intern(function), intended, sent, done, status, sys.intern(code), *rest)


class _Worker:
    """One process, and the thread that reads what it writes.

    Mutable state: ``_fault``, why it failed, and ``_has_ended``, that it said so.
    """

    def __init__(self, order: WorkerOrder, take: Callable[[Mapping[str, Any]], object]) -> None:
        self._take = take
        self._fault, self._has_ended = "", False
        self._ready = threading.Event()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # -P would be safer and hides a clone that is not installed; the parent's path is ours too
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for the command, which ends the processes
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), daemon=True, name="load test reader"
        )
        self._reader.start()
        self._send(pickle.dumps(order))

    def wait_until_ready(self) -> None:
        """It has imported what it needs.

        Raises:
            GeneratorFailed: it ended, or took too long.
        """
        until = time.monotonic() + READY_S
        while not self._ready.wait(0.05):
            if self._process.poll() is not None:
                raise self._failure(f"ended with {self._process.returncode}")
            if time.monotonic() > until:
                raise self._failure(f"was not ready after {READY_S:g} s")

    def tell(self, line: str) -> None:
        """Send it a command; one that has ended hears none."""
        self._send(line.encode())

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    @property
    def is_done(self) -> bool:
        """It has ended, and all is read.

        Raises:
            GeneratorFailed: it ended before its time.
        """
        if self._reader.is_alive():
            return False
        if self._fault or not self._has_ended:
            raise self._failure(self._fault or f"ended with {self._process.wait(END_S)}")
        return True

    def close(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(END_S)
        self._reader.join(END_S)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]

    def _read(self, output: BinaryIO) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=1 << 30)
        while data := output.read1(READ_BYTES):  # type: ignore[attr-defined]
            unpacker.feed(data)
            for message in unpacker:
                if "ready" in message:
                    self._ready.set()
                    continue
                if "end" in message:
                    self._has_ended, self._fault = True, message["end"]["fault"]
                self._take(message)

    def _failure(self, what: str) -> GeneratorFailed:
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        tail = "\n".join(text.splitlines()[-15:])
        return GeneratorFailed(f"a process that sends {what}.\n{tail}".rstrip())
