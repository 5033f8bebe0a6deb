"""Processes the benchmark starts, each ended by its id: when done, on an error, on Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

GRACE_S = 10.0
"""How long a child may take to end before it is killed."""
ANSWER_S = 120.0
"""How long a child may take to answer a line."""


class ChildFailed(Exception):
    """A process ended, or did not answer, where it should have; the message ends with the tail of its output."""


class Overdue(Exception):
    """The time allowed for everything is over. No section may take it for its own failure and let the next one start."""


class Child:
    """A process in a session of its own, so that a Ctrl-C at the terminal reaches only us, who end it in order.

    Its standard output and error go to ``log``; with ``piped``, lines are exchanged over its stdin and stdout and only its
    standard error goes there. ``started`` is the ``perf_counter`` of the moment it was started.
    """

    # Mutable state: the process, and what it wrote of a line that is not whole yet.

    def __init__(self, command: Sequence[str], log: Path, *, piped: bool = False, environ: Mapping[str, str] | None = None) -> None:
        self.command = tuple(command)
        self.log = log
        self.started = time.perf_counter()
        self._unread = b""
        with log.open("ab") as output:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                env=None if environ is None else dict(environ),
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Child {self.pid}: {' '.join(self.command)[:80]}, {self.state}>"

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def state(self) -> str:
        """``running`` or ``exit N``."""
        code = self._process.poll()
        return "running" if code is None else f"exit {code}"

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, line: str) -> None:
        """Writes a line to its stdin.

        Raises:
            ChildFailed: it has ended.
        """
        try:
            pipe(self._process.stdin).write(line.encode() + b"\n")
            pipe(self._process.stdin).flush()
        except BrokenPipeError:
            raise self.failure("takes no more input") from None

    def receive(self, timeout_s: float = ANSWER_S) -> str:
        """Its next line.

        Raises:
            ChildFailed: it ended instead, or took longer than ``timeout_s``.
        """
        output = pipe(self._process.stdout).fileno()
        while b"\n" not in self._unread:
            if not select.select([output], [], [], timeout_s)[0]:
                raise self.failure(f"no answer after {timeout_s:g} s")
            read = os.read(output, 1 << 16)
            if not read:
                self._process.wait(GRACE_S)
                raise self.failure("ended without an answer")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def listens(self, host: str, port: int, timeout_s: float = 20.0) -> None:
        """Waits until it accepts connections there.

        Raises:
            ChildFailed: it ended instead, or took longer than ``timeout_s``.
        """
        for _ in poll(timeout_s):
            with contextlib.suppress(OSError), socket.create_connection((host, port), 1.0):
                return
            if not self.is_running:
                raise self.failure("ended")
        raise self.failure(f"does not listen on {host}:{port} after {timeout_s:g} s")

    def wait(self, timeout_s: float) -> int:
        """Its exit code.

        Raises:
            ChildFailed: it is still running after ``timeout_s``.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still running after {timeout_s:g} s") from None

    def failure(self, what: str) -> ChildFailed:
        """The error to raise about this child."""
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        return ChildFailed(f"{' '.join(self.command)}: {what} ({self.state})\n{tail}".rstrip())

    def close(self) -> None:
        """Ends it: asked first, killed after ``GRACE_S``. May be called again."""
        if self.is_running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        if self.is_running:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """The pipe of a child that was started with ``piped``."""
    assert stream is not None, "started without pipes"
    return stream


def end(processes: Sequence[psutil.Process]) -> None:
    """Ends processes that are not children of ours, by id: asked first, killed after ``GRACE_S``."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, GRACE_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def ended_in_order(limit_s: float) -> Iterator[None]:
    """Makes a SIGTERM, and the end of the time allowed, unwind like Ctrl-C: every child is closed on the way out.

    Raises:
        Overdue: ``limit_s`` are over; says so wherever the benchmark waits at that moment.
    """

    def interrupt(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    def overdue(_signum: int, _frame: object) -> None:
        raise Overdue(f"not done after {limit_s:g} s.")

    before = signal.signal(signal.SIGTERM, interrupt), signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


def script(name: str) -> str:
    """A console script of the environment this interpreter belongs to, else whatever the shell would find."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if os.access(beside, os.X_OK) else name


def poll(seconds: float, every_s: float = 0.02) -> Iterator[float]:
    """Yields the seconds passed, every so often, until ``seconds`` are over."""
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        yield passed
        time.sleep(every_s)
