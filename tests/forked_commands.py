"""Commands of `wakeful` that run to their end, forked off one process that has imported what they need:
that is most of what a command takes, half a second of a core, and tests on Ray run more than a hundred.
What is forked has the folder, the environment and the streams of a command that was started; commands
that are looked at while they run are started (`Project.start`), as are all of tests without Ray.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent

MODULES = (
    "deployments.cli.call",
    "deployments.cli.logs",
    "deployments.cli.operations.foreground",
    "deployments.cli.operations.up",
    "deployments.cli.status",
    "deployments.cluster.cluster",
    "deployments.preflight.gpu_fit",
    "deployments.rollout.prepare",
    "runtime.graph.resolve",
)

MESSAGE_BYTES = 160 * 1024


class Commands:
    """Runs commands; the process that they are forked off starts with the first, and ends with this
    one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        timeout_s: float,
    ) -> subprocess.CompletedProcess[str]:
        """A command to its end: that of its streams, which no process that it leaves may hold."""
        request = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
        assert len(request) < MESSAGE_BYTES
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with _Stream() as out, _Stream() as err, ours:  # whose end is that of the command
            with theirs, out.theirs, err.theirs:
                streams = [one.fileno() for one in (out.theirs, err.theirs, theirs)]
                with self._lock:
                    socket.send_fds(self._running(), [request], streams)
            ours.settimeout(timeout_s)
            said = ours.recv(100)
            assert said, "what commands are forked off has ended"
            return subprocess.CompletedProcess(
                arguments, int(said), out.read(timeout_s), err.read(timeout_s)
            )

    def close(self) -> None:
        """No further command. Idempotent."""
        with self._lock:
            if self._control is not None and self._process is not None:
                self._control.close()
                self._process.wait(30)
            self._control = self._process = None

    def _running(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.forked_commands", str(theirs.fileno())],
                    cwd=ROOT,
                    env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        return self._control


class _Stream:
    """What a command writes, read as it comes."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self._ours: IO[str] = os.fdopen(read, encoding="utf-8", errors="strict")
        self.theirs: IO[bytes] = os.fdopen(write, "wb", buffering=0)
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> _Stream:
        self._reader.start()
        return self

    def __exit__(self, *of: object) -> None:
        self.theirs.close()
        self._reader.join(10)
        if not self._reader.is_alive():  # it would wait for the reader
            self._ours.close()

    def read(self, timeout_s: float) -> str:
        """All of it, once nothing has it open."""
        self._reader.join(timeout_s)
        assert not self._reader.is_alive(), "a process that the command left holds its streams"
        return self._text

    def _read(self) -> None:
        self._text = self._ours.read()


def main(control: socket.socket) -> list[str] | None:
    """Forks what is asked for until that ends; in a fork, its arguments."""
    for name in MODULES:
        importlib.import_module(name)
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        askers = {asker.fileno(): pid for pid, asker in running.values()}
        ready, _, _ = select.select([control.fileno(), *running, *askers], [], [])
        for handle in running.keys() & set(ready):
            pid, asker = running.pop(handle)
            askers.pop(asker.fileno())
            os.close(handle)
            _, status = os.waitpid(pid, 0)
            with asker, suppress(OSError):  # it was not waited for
                asker.send(str(os.waitstatus_to_exitcode(status)).encode())
        for gone in askers.keys() & set(ready):  # it is not waited for any more
            os.kill(askers[gone], signal.SIGKILL)
        if control.fileno() not in ready:
            continue
        message, streams, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
        if not message:
            return None
        out, err, answer = streams
        arguments, folder, environment = json.loads(message)
        if pid := os.fork():
            os.close(out)
            os.close(err)
            running[os.pidfd_open(pid)] = pid, socket.socket(fileno=answer)
            continue
        for other in (control, *(asker for _, asker in running.values())):
            other.close()
        for handle in (*running, answer):
            os.close(handle)
        become(folder, environment, out, err)
        return arguments


def become(folder: str, environment: Mapping[str, str], out: int, err: int) -> None:
    """This process is as one that was started there."""
    for stream, number in ((out, 1), (err, 2)):
        os.dup2(stream, number)
        os.close(stream)
    # those of this process know of what was there before whether it can be sought in
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
    os.chdir(folder)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    tempfile.tempdir = None
    searched = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [folder, *searched, *sys.path[1:]]


def run_command(arguments: list[str]) -> None:
    """As ``python -m deployments.cli``."""
    import runpy

    sys.argv = ["wakeful", *arguments]
    runpy.run_module("deployments.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    asked = main(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        run_command(asked)
