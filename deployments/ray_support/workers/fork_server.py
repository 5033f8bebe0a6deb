"""One process that has imported what Ray's workers import, and forks them: a fork takes
milliseconds, where a worker that starts by itself takes two seconds of a core to import Ray, Serve
and the engine; and what is imported is in memory once.

Ray starts ``start_worker`` for each worker, which asks here; commands that talk to Ray ask for
their driver (``forked_process``). What is forked is as what was started: it has the arguments, the
environment, the folder and the standard streams that were asked for, runs the script or the module,
and leads a session of its own. What could not be so is refused, and the asker starts it then: an
import may have read another environment than the one that is asked for.

What forks must not share is made anew: seeds of random numbers. Threads would be missing in a fork.
The server looks whether its imports have left such things, and ends then, as it does where one
fails, and once what it has imported is not what lies on the disk, as after an upgrade. Nothing of a
user's is imported here, and nothing that uses a GPU. The server ends with the raylet that it forks
for.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple

from deployments.ray_support.workers.start_worker import (
    ADDRESS,
    FORKED,
    MESSAGE_BYTES,
    OOM_SCORE,
    REFUSED,
    import_as,
    run_worker,
    worker_script,
)

MODULES: Final = (
    "ray._private.workers.default_worker",
    "ray.serve._private.controller",
    "ray.serve._private.haproxy",
    "ray.serve._private.proxy",
    "ray.serve._private.replica",
    "deployments.ingress.middleware",
    "deployments.placement.catalogue",
    "deployments.serving.application",
    "deployments.serving.host",
    "deployments.serving.replica",
)
"""What workers import on the way to their actors' classes, and the driver."""

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
    *("RAY_", "WAKEFUL_", "_WAKEFUL_", "PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "GLIBC_", "TZ"),
    *("GRPC_", "OMP_", "OPENBLAS_", "MKL_", "NPY_", "KMP_", "CUDA_", "TOKENIZERS_", "OTEL_"),
)
"""What begins so may have been read by an import, or when the server started."""

POLL_S: Final = 2.0
"""Between two looks whether the raylet is alive."""

ASK_S: Final = 5.0
"""Longest wait for the request of a connection that has been made."""

TITLE: Final = "-" * 160
"""An argument that is there for its length: the title of a process, such as the name of a replica,
has the room of the arguments of the process that it was forked off.
"""


class ForkRequest(NamedTuple):
    """What a process is to be.

    Attributes:
        streams: its standard input, output and error.
        oom_score: as the kernel writes it; empty: that of the server.
        module: what it runs; empty: Ray's script of a worker.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
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
        self._written = {name: value for name, value in after.items() if before.get(name) != value}
        self._read = self._of(before)

    def difference(self, asked: Mapping[str, str]) -> tuple[str, ...]:
        """The variables of which imports would have read something else in this environment."""
        names = {name for name, _ in self._of(asked).items() ^ self._read.items()}
        return tuple(sorted(names))

    def with_written(self, asked: Mapping[str, str]) -> dict[str, str]:
        """An environment as imports would have left it."""
        return {**asked, **self._written}

    def _of(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {
            name: value
            for name, value in self.with_written(environment).items()
            if name.startswith(READ) and name not in VARIES
        }


def start(
    path: Path, environment: Mapping[str, str], log: Path, modules: Sequence[str] = MODULES
) -> subprocess.Popen[bytes]:
    """Starts the server. Its clients may ask at once: they wait until it has imported.

    Args:
        path: of its socket, in a folder that only its owner can look into.
        environment: what it imports in; its raylet is running.
        log: where it says why it forks something not, or nothing any more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        log.open("w", encoding="utf-8") as out,
    ):
        listener.bind(str(path))
        listener.listen(128)
        return subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno()), ",".join(modules), TITLE],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )


def main() -> None:
    """The server; and each process that it forks, for which ``serve`` returns its request."""
    before = dict(os.environ)
    descriptor, modules, _ = sys.argv[1:]
    import_as(worker_script())
    with socket.socket(fileno=int(descriptor)) as listener:
        import_all(modules.split(","))
        gc.collect()
        gc.freeze()  # a collection in a fork would write to all that it shares, and so copy it
        if fault := fault_of_forks():
            raise SystemExit(f"nothing is forked: {fault}")
        environment = ReadEnvironment(before, os.environ)
        request = serve(listener, environment)
    if request is not None:
        become(request, environment)
        run(request)


def import_all(modules: Sequence[str]) -> None:
    """Imports these."""
    with drawing_nothing() if any(name.startswith("ray.") for name in modules) else nullcontext():
        for name in modules:
            importlib.import_module(name)


@contextmanager
def drawing_nothing() -> Iterator[None]:
    """Ray draws no id meanwhile. The class of an actor gets one when it is made, as Serve's do when
    they are imported; all forks would have the state of that generator, and draw the same ids.
    """
    actor: Any = importlib.import_module("ray.actor")
    kind = actor.ActorClassID
    actor.ActorClassID = SimpleNamespace(from_random=lambda: kind(os.urandom(kind.size())))
    try:
        yield
    finally:
        actor.ActorClassID = kind


def fault_of_forks() -> str:
    """Why this process should fork nothing; empty if it may. It has forked then: the threads of
    numpy end themselves for that.
    """
    if len({_draw_in_a_fork() for _ in range(2)}) < 2:
        return "all would draw the same ids"
    if threads := len(list(Path("/proc/self/task").iterdir())) - 1:
        return f"imports have started {threads} threads"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return f"the system gives no handles of processes: {error}"
    return ""


def _draw_in_a_fork() -> bytes:
    """An id that Ray draws in a fork; something else where Ray is not imported."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        ray: Any = sys.modules.get("ray")
        os.write(write, ray.WorkerID.from_random().binary() if ray else os.urandom(8))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as drawn:
        found = drawn.read()
    os.waitpid(child, 0)
    return found


def serve(listener: socket.socket, environment: ReadEnvironment) -> ForkRequest | None:
    """Forks what is asked for.

    Returns:
        in what was forked its request; in the server None, when it is to end.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork is waited for
    raylet, imported = int(os.environ[RAYLET]), imported_files()
    while is_alive(raylet):
        ready, _, _ = select.select([listener], [], [], POLL_S)
        if not ready:
            continue
        if imported_files() != imported:
            raise SystemExit("nothing is forked any more: what was imported has changed")
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(ASK_S)
            request = receive(connection)
            if request is None:
                continue
            if names := environment.difference(request.environment):
                print(f"not forked, since imports may have read {', '.join(names)}", flush=True)
                is_fork: bool = answer(connection, REFUSED)
            else:
                is_fork = fork_for(connection)
        if is_fork:
            return request
        for stream in request.streams:
            os.close(stream)
    return None


def imported_files() -> dict[str, tuple[int, int]]:
    """Size and time of each file that was imported, 0 of one that is gone: some milliseconds."""
    return {
        file: _look(file)
        for module in list(sys.modules.values())
        if isinstance(file := getattr(module, "__file__", None), str)
    }


def receive(connection: socket.socket) -> ForkRequest | None:
    """What is asked for; None where nothing whole has come: the asker then starts it."""
    streams: list[int] = []
    try:
        message, streams, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 3)
        request = ForkRequest(**json.loads(message), streams=streams)
        if len(streams) == 3 and isinstance(request.environment, dict):
            return request
    except (OSError, ValueError, TypeError):
        pass
    for stream in streams:
        os.close(stream)
    return None


def fork_for(connection: socket.socket) -> bool:
    """Forks, and answers with a handle of the new process, by which it can be ended and its end be
    seen; its id may be another's then.

    Returns:
        whether this process is the fork.
    """
    try:
        child = os.fork()
        if child == 0:
            return True
        handle = os.pidfd_open(child)
    except OSError:  # no room for a process; or it has ended already
        return answer(connection, REFUSED)
    answer(connection, FORKED, handle)
    os.close(handle)
    return False


def answer(connection: socket.socket, said: bytes, *handles: int) -> Literal[False]:
    """Answers an asker, which may have gone."""
    with suppress(OSError):
        socket.send_fds(connection, [said], handles)
    return False


def become(request: ForkRequest, environment: ReadEnvironment) -> None:
    """Makes this process, which was forked, as if it had been started so."""
    os.setsid()  # Ray may end a worker with its group
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request.folder)
    wanted = environment.with_written(request.environment)
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
    if request.oom_score:
        with suppress(OSError):
            Path(OOM_SCORE).write_text(request.oom_score, encoding="ascii")
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # Python's own are seeded anew by every fork


def run(request: ForkRequest) -> None:
    """What was asked for, to its end."""
    if not request.module:
        return run_worker(request.arguments)
    import runpy  # not in commands, which only start the server

    sys.argv = ["-m", *request.arguments]
    sys.path[0] = request.folder  # as `python -m` does
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)
    return None


def _look(file: str) -> tuple[int, int]:
    with suppress(OSError):
        found = Path(file).stat()
        return found.st_size, found.st_mtime_ns
    return 0, 0


def is_alive(process: int) -> bool:
    """Whether there is a process of this id."""
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


if __name__ == "__main__":
    main()
