"""What is asked of a fork server, and what a fork does to be as if it had been started so."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from deployments.ray_support.workers.start_worker import ADDRESS, MESSAGE_BYTES, OOM_SCORE, READY

RAYLET: Final = "RAY_RAYLET_PID"
"""The variable by which a worker knows its raylet."""

JOB: Final = "RAY_JOB_ID"
"""The variable with the job that a worker is started for."""

VARIES: Final = frozenset({RAYLET, JOB, "RAY_LD_PRELOAD_ON_WORKERS", ADDRESS})
"""Variables that the raylet adds. Ray's core reads two of them when it is imported: the server has
those of its raylet and of no job, and so have all forks. A worker of no job gets that of its first
task, as those do that Ray starts ahead.
"""

READ: Final = (
    *("RAY_", "SERVE_", "WAKEFUL_", "_WAKEFUL_", "PYTHON", "_PYTHON_", "LANG", "LC_", "LD_", "TZ"),
    *("AGENT_GRPC_", "FUNCTION_SIZE_", "LISTEN_FOR_", "MODEL_LOAD_", "REQUEST_LATENCY_"),  # Ray's
    *("CUDA_", "ASCEND_", "FURIOSA_", "HABANA_", "NEURON_", "QBRUNTIME_", "RBLN_", "TPU_", "TT_"),
    *("MALLOC_", "GLIBC_", "GRPC_", "OMP_", "OPENBLAS_", "MKL_", "KMP_", "NPY_", "NUMPY_"),
    *("MSGPACK_", "OTEL_", "PROMETHEUS_", "prometheus_", "PROTOCOL_BUFFERS_", "PSUTIL_"),
    *("PYDANTIC_", "RUAMEL_", "TEMPORARILY_DISABLE_PROTOBUF_", "TOKENIZERS_", "TQDM_"),
)
"""What begins so may have been read by an import, or when the server started."""


class ForkRequest(NamedTuple):
    """What a process is to be.

    Attributes:
        python: the program that would run it.
        status: of the asker, as the kernel writes it: of it are its signals and permissions.
        streams: its standard input, output and error.
        oom_score: as the kernel writes it; empty: that of the server.
        module: what it runs; empty: Ray's script of a worker.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    python: str
    status: str
    streams: Sequence[int]
    oom_score: str = ""
    module: str = ""


class ReadEnvironment:
    """What imports have read of the server's environment, and what they have written to it.

    Args:
        before: of the server when it started.
        after: since it has imported.
    """

    def __init__(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        self._before = dict(before)
        self._written = {name: value for name, value in after.items() if before.get(name) != value}

    def difference(self, asked: Mapping[str, str]) -> tuple[str, ...]:
        """The variables of which imports would have read something else in this environment. What
        they have written may be as they found it or as they left it.
        """
        names = asked.keys() | self._before.keys() | self._written.keys()
        return tuple(
            sorted(
                name
                for name in names
                if self._is_read(name)
                and asked.get(name) not in (self._before.get(name), self._left(name))
            )
        )

    def with_written(self, asked: Mapping[str, str]) -> dict[str, str]:
        """An environment as imports would have left it."""
        return {**asked, **self._written}

    def _is_read(self, name: str) -> bool:
        return name not in VARIES and (name.startswith(READ) or name in self._written)

    def _left(self, name: str) -> str | None:
        return self._written.get(name, self._before.get(name))


def receive(connection: socket.socket) -> ForkRequest | None:
    """What is asked for; None where nothing whole has come: the asker then starts it."""
    streams: list[int] = []
    try:
        if not is_own(connection):
            return None
        connection.send(READY)
        message, streams, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 3)
        request = ForkRequest(**json.loads(message), streams=streams)
        if len(streams) == 3 and is_sound(request):
            return request
    except (OSError, ValueError, TypeError):
        pass
    for stream in streams:
        os.close(stream)
    return None


def is_own(connection: socket.socket) -> bool:
    """Whether the asker is a process of this user; not if it is root's, which would have started it
    as root.
    """
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", found)
    return bool(user == os.geteuid())


def is_sound(request: ForkRequest) -> bool:
    """Whether a request has what its fields say."""
    texts = [request.folder, request.python, request.status, request.oom_score, request.module]
    return (
        isinstance(request.arguments, list)
        and isinstance(request.environment, dict)
        and all(
            isinstance(text, str)
            for text in (*texts, *request.arguments, *request.environment.values())
        )
    )


def unlike(request: ForkRequest, environment: ReadEnvironment) -> str:
    """Why a fork would not be as what is asked for; empty if it would."""
    if request.python != sys.executable:
        return f"it is of {request.python}"
    if names := environment.difference(request.environment):
        return f"imports may have read {', '.join(names)}"
    return ""


def become(request: ForkRequest, environment: ReadEnvironment) -> None:
    """Makes this process, which was forked, as if it had been started so."""
    os.setsid()  # Ray may end a worker with its group
    take_over(request.status)
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request.folder)
    wanted = environment.with_written(request.environment)
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
    importlib.invalidate_caches()  # of folders that were not there when the server imported
    if request.oom_score:
        with suppress(OSError):
            Path(OOM_SCORE).write_text(request.oom_score, encoding="ascii")
    numbers: Any = sys.modules.get("numpy.random")  # imported with numpy by old ones alone
    if numbers is not None:
        numbers.seed()  # Python's own are seeded anew by every fork


def take_over(status: str) -> None:
    """Blocks and ignores the signals that the process of this status does, as far as it has that
    from its parent, and gives files the permissions that it does.
    """
    said = dict(re.findall(r"^(Umask|SigBlk|SigIgn):\s*(\w+)$", status, re.MULTILINE))
    if "Umask" in said:
        os.umask(int(said["Umask"], 8))
    ignored = _signals(said.get("SigIgn", "0")) | {signal.SIGPIPE, signal.SIGXFSZ}  # as Python does
    for one in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if one in ignored:
            signal.signal(one, signal.SIG_IGN)
        elif signal.getsignal(one) == signal.SIG_IGN:
            is_interrupt = one == signal.SIGINT
            signal.signal(one, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _signals(said.get("SigBlk", "0")))


def _signals(mask: str) -> set[int]:
    """Those of a mask in hexadecimal digits, the lowest bit for signal 1."""
    bits = int(mask, 16)
    return {one for one in signal.valid_signals() if bits >> (one - 1) & 1}
