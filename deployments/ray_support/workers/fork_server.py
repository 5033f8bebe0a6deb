"""One process that has imported what Ray's workers import, and forks them: a fork takes
milliseconds, where a worker that starts by itself takes two seconds of a core to import Ray, Serve
and the engine; and what is imported is in memory once.

Ray starts ``start_worker`` for each worker, which asks here; commands that talk to Ray ask for
their driver (``forked_process``). What is forked is as what was started: it has the arguments, the
environment, the folder, the standard streams, the signals and the permissions that were asked for,
runs the script or the module, and leads a session of its own (``fork_request``). What could not be
so is refused, and the asker starts it then: it is of another Python, as in an environment that Ray
has made, or an import may have read other variables than those that are asked for.

What forks must not share is made anew: seeds of random numbers. Threads would be missing in a fork,
and an open file would be one for all. The server looks whether its imports have left such things,
and ends then, as it does where one fails, and once what it has imported is not what lies on the
disk, as after an upgrade, or a process that starts now would import from elsewhere, as after
``pip install -e``. Nothing of a user's is imported here, and nothing that uses a GPU. The server
ends with the raylet that it forks for.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import site
import socket
import stat
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal

from deployments.ray_support.workers.fork_request import (
    RAYLET,
    ForkRequest,
    ReadEnvironment,
    become,
    receive,
    unlike,
)
from deployments.ray_support.workers.start_worker import (
    FORKED,
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

ASK_S: Final = 5.0
"""Longest wait for the request of a connection that has been made."""

STARTING: Final = (".pth", "sitecustomize.py", "usercustomize.py")
"""What a Python that starts reads in the folders of its packages ends so."""

TITLE: Final = "-" * 160
"""An argument that is there for its length: the title of a process, such as the name of a replica,
has the room of the arguments of the process that it was forked off.
"""


def start(
    path: Path, environment: Mapping[str, str], log: Path, modules: Sequence[str] = MODULES
) -> subprocess.Popen[bytes]:
    """Starts the server. Its clients may ask at once: they wait until it has imported.

    Args:
        path: of its socket, in a folder that only its owner can look into.
        environment: what it imports in; its raylet is running.
        log: where it says why it forks something not, or nothing any more.

    Raises:
        OSError: it cannot be started here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        log.open("w", encoding="utf-8") as out,
    ):
        listener.bind(str(path))
        path.chmod(0o600)
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
    before, paths = dict(os.environ), look_at(path_files())
    descriptor, modules, _ = sys.argv[1:]
    import_as(worker_script())
    with ExitStack() as held:
        listener = held.enter_context(socket.socket(fileno=int(descriptor)))
        try:
            raylet = os.pidfd_open(int(os.environ[RAYLET]))
        except OSError as error:
            raise SystemExit(f"nothing is forked: no handle of the raylet: {error}") from error
        held.callback(os.close, raylet)
        import_all(modules.split(","))
        gc.collect()
        gc.freeze()  # a collection in a fork would write to all that it shares, and so copy it
        if fault := fault_of_forks(but={listener.fileno(), raylet}):
            raise SystemExit(f"nothing is forked: {fault}")
        environment = ReadEnvironment(before, os.environ)
        request = serve(listener, raylet, environment, paths)
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


def fault_of_forks(but: Collection[int]) -> str:
    """Why this process should fork nothing; empty if it may. It has forked then: the threads of
    numpy end themselves for that.

    Args:
        but: what it has open itself.
    """
    if len({_draw_in_a_fork() for _ in range(2)}) < 2:
        return "all would draw the same ids"
    if threads := len(list(Path("/proc/self/task").iterdir())) - 1:
        return f"imports have started {threads} threads"
    if files := open_files(but):
        return f"imports hold {', '.join(files)} open"
    return ""


def open_files(but: Collection[int]) -> tuple[str, ...]:
    """What this process has open beyond its standard streams and ``but``."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this folder, which has been read
            if int(one.name) not in {0, 1, 2, *but}:
                found.append(str(one.readlink()))
    return tuple(found)


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


def serve(
    listener: socket.socket,
    raylet: int,
    environment: ReadEnvironment,
    paths: Mapping[str, tuple[int, int]],
) -> ForkRequest | None:
    """Forks what is asked for.

    Args:
        raylet: a handle of it.
        paths: what was seen of ``path_files`` when this process started.

    Returns:
        in what was forked its request; in the server None, when it is to end.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork is waited for
    imported = imported_files()
    before = {**look_at(imported), **paths}
    while True:
        ready, _, _ = select.select([listener.fileno(), raylet], [], [])
        if raylet in ready:
            return None
        if changed := dict(before.items() ^ look_at((*imported, *path_files())).items()):
            raise SystemExit(f"nothing is forked any more: {min(changed)} has changed")
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(ASK_S)
            request = receive(connection)
            if request is None:
                continue
            if why := unlike(request, environment):
                write_line(f"not forked: {why}")
                is_fork: bool = answer(connection, REFUSED)
            else:
                is_fork = fork_for(connection)
        if is_fork:
            return request
        for stream in request.streams:
            os.close(stream)


def imported_files() -> list[str]:
    """Each file that was imported."""
    return [
        file
        for module in list(sys.modules.values())
        if isinstance(file := getattr(module, "__file__", None), str)
    ]


def path_files() -> Iterator[str]:
    """The files by which Python finds its modules when it starts, as ``site`` reads them, and the
    folders that it looks in once they are there.
    """
    yield str(Path(sys.prefix) / "pyvenv.cfg")
    folders = [*site.getsitepackages(), site.USER_SITE if site.ENABLE_USER_SITE else None]
    for folder in map(Path, filter(None, folders)):
        with suppress(OSError):
            found = list(folder.iterdir())
            yield str(folder)
            yield from (str(file) for file in found if file.name.endswith(STARTING))


def look_at(files: Iterable[str]) -> dict[str, tuple[int, int]]:
    """What is seen of these: of all that was imported some milliseconds."""
    return {file: look(file) for file in files}


def look(file: str) -> tuple[int, int]:
    """Size and time of a file; 0 of one that is gone, and of a folder."""
    with suppress(OSError):
        found = Path(file).stat()
        if stat.S_ISREG(found.st_mode):
            return found.st_size, found.st_mtime_ns
    return 0, 0


def fork_for(connection: socket.socket) -> bool:
    """Forks. The new process answers, with a handle of itself, by which it can be ended and its end
    be seen; its id may be another's then. So what is forked is known to the asker though the server
    ends in this moment, and without an answer there is nothing that runs.

    Returns:
        whether this process is the fork.
    """
    try:
        child = os.fork()
    except OSError:  # no room for a process
        return answer(connection, REFUSED)
    if child:
        return False
    try:
        handle = os.pidfd_open(os.getpid())
    except OSError:  # no room for a handle
        answer(connection, REFUSED)
        os._exit(1)
    answer(connection, FORKED, handle)
    os.close(handle)
    return True


def answer(connection: socket.socket, said: bytes, *handles: int) -> Literal[False]:
    """Answers an asker, which may have gone."""
    with suppress(OSError):
        socket.send_fds(connection, [said], handles)
    return False


def write_line(line: str) -> None:
    """Writes to the log, past a buffer, which forks would have as well; not if the disk is full."""
    with suppress(OSError):
        os.write(1, os.fsencode(f"{line}\n"))


def run(request: ForkRequest) -> None:
    """What was asked for, to its end."""
    if not request.module:
        return run_worker(request.arguments)
    import runpy  # not in commands, which only start the server

    sys.argv = ["-m", *request.arguments]
    sys.path[0] = request.folder  # as `python -m` does
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)
    return None


if __name__ == "__main__":
    main()
