"""Processes are forked as they would have started, or start by themselves. Ray is a script here that
writes down what it is.
"""

from __future__ import annotations

import json
import os
import signal
import site
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.ray_support.workers import fork_request, fork_server, head_node, start_worker
from deployments.ray_support.workers.fork_request import RAYLET, ReadEnvironment
from deployments.ray_support.workers.forked_process import ForkedProcess, NotForked
from deployments.ray_support.workers.start_worker import ADDRESS, READY
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")

ROOT = Path(__file__).parents[4]

SCRIPT = """\
import importlib.util, json, os, random, signal, sys
from pathlib import Path

file, *arguments = sys.argv[1:]
print("said")
said = {
    "arguments": arguments,
    "script": [sys.argv[0], __name__, sys.modules["__main__"].__file__],
    "imports from": sys.path,
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "signals": {int(one): str(signal.getsignal(one)) for one in signal.valid_signals()},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "permissions": os.umask(0),
    "oom_score": Path("/proc/self/oom_score_adj").read_text(),
    "streams": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
    "leads": os.getsid(0) == os.getpid(),
    "parent": os.getppid(),
    "random": random.random(),
    "has imported": "preloaded" in sys.modules,
    "finds": [name for name in ("added", "installed") if importlib.util.find_spec(name)],
}
Path(file + ".new").write_text(json.dumps(said))
os.replace(file + ".new", file)
"""

OF_A_FORK = {"parent", "random", "has imported", "leads"}
"""What is another in a process that was forked."""

DRIVER = """\
import os, sys

for line in sys.stdin:
    print(line.strip(), os.getcwd(), os.environ.get("OTHER"), "preloaded" in sys.modules, flush=True)
print("the end", file=sys.stderr)
"""


DYING = """\
import os, signal

fork, forks = os.fork, []

def fork_and_end():
    forks.append(0)
    child = fork()
    if child and len(forks) > 2:  # two have drawn an id
        os.kill(os.getpid(), signal.SIGKILL)
    return child

os.fork = fork_and_end
"""
"""A server with this is killed when it has forked."""

CROWDED = """\
import os

opens = os.pidfd_open

def pidfd_open(of):
    if of == os.getpid():
        raise OSError("too many open files")
    return opens(of)

os.pidfd_open = pidfd_open
"""
"""A process that was forked has no room for a handle of itself."""


class Workers:
    """Workers of a Ray that is in ``folder``.

    Attributes:
        raylet: a process that stands for it.
        python: what starts them.
        environment: of all of them.
    """

    def __init__(self, folder: Path, raylet: subprocess.Popen[bytes]) -> None:
        self.folder, self.raylet, self.python = folder, raylet, sys.executable
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{folder}:{ROOT}",
            RAYLET: str(raylet.pid),
        }
        self._count = 0

    @property
    def server(self) -> Path:
        """The socket of their fork server."""
        return self.folder / "sockets" / "forks"

    def start(self, *arguments: str, **variables: str) -> dict[str, Any]:
        """What one says of itself, with its output."""
        self._count += 1
        file = self.folder / str(self._count)
        ended = subprocess.run(
            [self.python, start_worker.__file__, str(file), *arguments],
            env={**self.environment, ADDRESS: str(self.server), **variables},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return {**json.loads(file.read_text()), "output": ended.stdout}

    def driver(self, **variables: str) -> ForkedProcess:
        """A process of a command."""
        return ForkedProcess(
            self.server,
            "a_driver",
            {**self.environment, **variables},
            str(self.folder),
            self.folder / "driver.log",
        )


@pytest.fixture
def workers() -> Iterator[Workers]:
    """In an environment that finds that Ray first."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as short,
        subprocess.Popen(["sleep", "300"]) as raylet,
    ):
        folder = Path(short)
        scripts = folder / "ray" / "_private" / "workers"
        scripts.mkdir(parents=True)
        (scripts / "default_worker.py").write_text(SCRIPT)
        (folder / "ray" / "__init__.py").write_text("raise ImportError('it takes its time')")
        (folder / "a_driver.py").write_text(DRIVER)
        (folder / "preloaded.py").write_text("import os\nos.environ['RAY_WRITTEN'] = '1'\n")
        (folder / "threaded.py").write_text(
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"
        )
        (folder / "opened.py").write_text("import socket\nheld = socket.socket()\n")
        try:
            yield Workers(folder, raylet)
        finally:
            raylet.kill()


@contextmanager
def serving(
    workers: Workers, *modules: str, log: str = "forks.log", **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A fork server that has these to import."""
    server = fork_server.start(
        workers.server, {**workers.environment, **variables}, workers.folder / log, modules
    )
    with server:
        try:
            yield server
        finally:
            server.kill()


def test_a_worker_that_is_forked_is_as_one_that_was_started(workers):
    """Its arguments, environment, folder, streams, signals and place among those that the system ends
    first; what it would import is there.
    """
    asked = {"RAY_JOB_ID": "01", "SPT_NOENV": "1"}
    alone = workers.start("--worker-id=1", RAY_WRITTEN="1", **asked)
    with serving(workers, "preloaded") as server:
        forked = workers.start("--worker-id=1", **asked)
    assert (forked["parent"], forked["has imported"], forked["leads"]) == (server.pid, True, True)
    assert alone["has imported"] is False
    assert {key: value for key, value in forked.items() if key not in OF_A_FORK} == {
        key: value for key, value in alone.items() if key not in OF_A_FORK
    }
    assert forked["output"] == "said\n"


def test_what_the_raylet_says_of_a_worker_is_its_own(workers):
    """Two of one server differ in it, in variables that no import reads, and in random numbers; what
    the server alone has, neither has.
    """
    with serving(workers, "preloaded", "random", SAID_TO_THE_SERVER="1") as server:
        one, two = (workers.start(RAY_JOB_ID=job, HTTP_PROXY=job) for job in ("01", "02"))
    assert one["parent"] == two["parent"] == server.pid
    for said, job in ((one, "01"), (two, "02")):
        assert (said["environment"]["RAY_JOB_ID"], said["environment"]["HTTP_PROXY"]) == (job, job)
        assert "SAID_TO_THE_SERVER" not in said["environment"]
    assert one["random"] != two["random"]


def test_a_worker_of_another_environment_starts_by_itself(workers):
    """An import may have read it."""
    with serving(workers, "preloaded") as server:
        other = workers.start(RAY_OTHER="1")
        assert (other["has imported"], other["environment"]["RAY_OTHER"]) == (False, "1")
        assert "read RAY_OTHER\n" in (workers.folder / "forks.log").read_text()
        assert workers.start()["parent"] == server.pid


BEFORE = {"RAY_A": "1", "PATH": "/bin", "LANG": "C"}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({**BEFORE}, ()),
        ({**BEFORE, "PATH": "/usr/bin", "HTTP_PROXY": "x"}, ()),
        ({**BEFORE, RAYLET: "7", "RAY_JOB_ID": "01", ADDRESS: "/s"}, ()),
        ({**BEFORE, "RAY_WRITTEN": "1", "OTHER_WRITTEN": "1"}, ()),
        ({**BEFORE, "RAY_WRITTEN": "2", "OTHER_WRITTEN": "2"}, ("OTHER_WRITTEN", "RAY_WRITTEN")),
        ({**BEFORE, "RAY_A": "2"}, ("RAY_A",)),
        ({**BEFORE, "RAY_B": ""}, ("RAY_B",)),
        ({"RAY_A": "1", "PATH": "/bin"}, ("LANG",)),
        ({**BEFORE, "PYTHONPATH": "/elsewhere"}, ("PYTHONPATH",)),
        ({**BEFORE, "LD_PRELOAD": "a.so", "WAKEFUL_ROOT": "/"}, ("LD_PRELOAD", "WAKEFUL_ROOT")),
    ],
)
def test_imports_read_some_variables_and_write_some(asked, names):
    """What differs in those that they read is named; what they write is written in every fork."""
    written = {"RAY_WRITTEN": "1", "OTHER_WRITTEN": "1"}
    environment = ReadEnvironment(BEFORE, {**BEFORE, **written})
    assert environment.difference(asked) == names
    assert environment.with_written(asked) == {**asked, **written}


@pytest.mark.parametrize("module", ["missing", "threaded", "opened"])
def test_workers_start_by_themselves_where_nothing_can_be_forked(workers, module):
    """An import fails, starts a thread, or leaves something open; those that have asked meanwhile
    too.
    """
    with serving(workers, module) as server:
        assert workers.start()["has imported"] is False
        server.wait(30)
        assert workers.start()["has imported"] is False
        with pytest.raises(NotForked):
            workers.driver()
    assert (workers.folder / "forks.log").read_text()


def test_what_has_changed_since_it_was_imported_is_imported_anew(workers):
    """As after an upgrade beneath a cluster that is up."""
    with serving(workers, "preloaded") as server:
        assert workers.start()["parent"] == server.pid
        (workers.folder / "preloaded.py").write_text("renewed = True\n")
        assert workers.start()["has imported"] is False
        server.wait(30)
        assert "has changed" in (workers.folder / "forks.log").read_text()


def test_what_has_come_since_the_server_started_is_found(workers):
    """In a folder that is looked in, and was not there."""
    since = workers.folder / "since"
    workers.environment["PYTHONPATH"] = f"{since}:{workers.environment['PYTHONPATH']}"
    with serving(workers, "preloaded") as server:
        assert workers.start()["finds"] == []
        since.mkdir()
        (since / "added.py").touch()
        forked = workers.start()
        assert (forked["parent"], forked["finds"]) == (server.pid, ["added"])


@pytest.fixture
def packages(workers) -> Path:
    """The folder of packages of an environment that is the workers'."""
    found = Path(site.getsitepackages([str(workers.folder)])[0])
    found.mkdir(parents=True)
    (workers.folder / "sitecustomize.py").write_text(
        f"import site\nsite.PREFIXES.append({str(workers.folder)!r})\n"
        f"site.addsitedir({str(found)!r})\n"
    )
    return found


def test_what_was_installed_since_the_server_started_is_found(workers, packages):
    """As a project is by ``pip install -e``: by a file that Python reads when it starts. Any other
    package is found by a fork as well.
    """
    project = workers.folder / "project"
    project.mkdir()
    (project / "installed.py").touch()
    with serving(workers, "preloaded") as server:
        assert workers.start()["finds"] == []
        (packages / "added.py").touch()
        forked = workers.start()
        assert (forked["parent"], forked["finds"]) == (server.pid, ["added"])
        (packages / "project.pth").write_text(f"{project}\n")
        started = workers.start()
        assert (started["has imported"], started["finds"]) == (False, ["added", "installed"])
        server.wait(30)
        assert "project.pth has changed" in (workers.folder / "forks.log").read_text()


def test_the_server_ends_with_the_raylet_that_it_forks_for(workers):
    """And not with a worker."""
    with serving(workers, "preloaded") as server:
        assert workers.start()["parent"] == server.pid
        assert server.poll() is None
        workers.raylet.kill()
        workers.raylet.wait()
        server.wait(30)


def test_what_is_no_request_disturbs_nothing(workers):
    """Nor one whose asker has gone."""
    with serving(workers, "preloaded") as server:
        whole = {
            "arguments": [],
            "environment": {},
            "folder": "/",
            "python": sys.executable,
            "status": "",
        }
        for message, streams in (
            (b"", []),
            (b"{", [0, 1, 2]),
            (b"{}", [0, 1, 2]),
            (b"[1]", [0, 1, 2]),
            (json.dumps(whole).encode(), [0]),
            *(
                (json.dumps({**whole, **other}).encode(), [0, 1, 2])
                for other in (
                    {"environment": []},
                    {"environment": {"RAY_A": []}},
                    {"arguments": [1]},
                    {"folder": None},
                    {"streams": [7, 8, 9]},
                    {"more": 1},
                )
            ),
        ):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
                asker.connect(str(workers.server))
                assert asker.recv(10) == READY
                if message:
                    socket.send_fds(asker, [message], streams)
                    with suppress(ConnectionResetError):
                        assert asker.recv(10) == b""
        assert workers.start()["parent"] == server.pid
        assert psutil.Process(server.pid).num_fds() < 10


def test_a_server_that_hangs_is_not_waited_for(workers, monkeypatch):
    """It has no request yet, and so forks nothing later."""
    monkeypatch.setattr(start_worker, "READY_S", 0.05)
    monkeypatch.setenv(ADDRESS, str(workers.server))
    with serving(workers, "preloaded") as server:
        assert workers.start()["parent"] == server.pid
        server.send_signal(signal.SIGSTOP)
        assert start_worker.is_forked([]) is False
        server.send_signal(signal.SIGCONT)
        assert workers.start()["parent"] == server.pid
        wait_until(lambda: not psutil.Process(server.pid).children())


def test_one_that_is_not_answered_is_not_started_twice(workers, monkeypatch):
    """The server has the request: it may fork it yet, and Ray knows one."""
    monkeypatch.setattr(start_worker, "ANSWER_S", 0.05)
    path = workers.folder / "silent"
    monkeypatch.setenv(ADDRESS, str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(str(path))
        silent.listen()

        def take_one() -> None:
            connection, _ = silent.accept()
            with connection:
                connection.send(READY)
                asked.wait(30)

        asked = threading.Event()
        server = threading.Thread(target=take_one)
        server.start()
        try:
            with pytest.raises(SystemExit, match="has not answered"):
                start_worker.is_forked([])
        finally:
            asked.set()
            server.join()
    assert start_worker.is_forked([]) is False


def test_a_server_that_ends_when_it_has_forked_has_started_one(workers):
    """What is forked answers itself, and its asker starts no second one, which Ray would not know."""
    (workers.folder / "dying.py").write_text(DYING)
    with serving(workers, "preloaded", "dying") as server:
        forked = workers.start()
        server.wait(30)
    assert server.returncode == -signal.SIGKILL
    assert (forked["has imported"], forked["output"]) == (True, "said\n")


def test_a_fork_of_which_there_is_no_handle_ends(workers):
    """The asker starts by itself then."""
    (workers.folder / "crowded.py").write_text(CROWDED)
    with serving(workers, "preloaded", "crowded") as server:
        started = workers.start()
        assert (started["has imported"], started["output"]) == (False, "said\n")
        wait_until(lambda: not psutil.Process(server.pid).children())
        with pytest.raises(NotForked, match="refused"):
            workers.driver()


def test_a_worker_has_the_signals_and_permissions_of_what_asks(workers):
    """Ray's raylet blocks Ctrl-C, a terminal that is left has its end ignored."""
    with serving(workers, "preloaded"), having_its_own_signals():
        alone = workers.start(RAY_OTHER="1")
        forked = workers.start()
    assert (alone["has imported"], forked["has imported"]) == (False, True)
    for said in (alone, forked):
        assert said["blocked"] == [signal.SIGINT]
        assert said["permissions"] == 0o27
    assert forked["signals"] == alone["signals"]
    assert forked["signals"][str(int(signal.SIGHUP))] == str(signal.SIG_IGN)


@contextmanager
def having_its_own_signals() -> Iterator[None]:
    """What this process starts has Ctrl-C blocked, a hang-up ignored, and gives others no files."""
    permissions = os.umask(0o27)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGHUP, hang_up)
        os.umask(permissions)


def test_a_worker_of_another_python_starts_by_itself(workers):
    """As in an environment that Ray has made for a task: its packages are others."""
    other = workers.folder / "python"
    other.symlink_to(sys.executable)
    with serving(workers, "preloaded") as server:
        workers.python = str(other)
        assert workers.start()["has imported"] is False
        assert f"it is of {other}" in (workers.folder / "forks.log").read_text()
        workers.python = sys.executable
        assert workers.start()["parent"] == server.pid


def test_the_socket_is_its_users(workers):
    """Whatever permissions files get."""
    permissions = os.umask(0)
    try:
        with serving(workers, "preloaded"):
            assert stat.S_IMODE(workers.server.stat().st_mode) == 0o600
    finally:
        os.umask(permissions)


def test_a_process_of_another_user_is_not_answered(monkeypatch):
    """Nor root's, which would be another than it asked for."""
    server, asker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with server, asker:
        assert fork_request.is_own(server)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert fork_request.receive(server) is None
        server.close()
        assert asker.recv(10) == b""


def test_a_server_that_cannot_be_started_ends_no_head(tmp_path, caplog):
    """Workers start by themselves then, and the log says why."""
    (tmp_path / "no folder").touch()
    head_node.start_forks(tmp_path / "no folder" / "forks", os.environ)
    assert "none is forked: " in caplog.text
    assert "no folder" in caplog.text


def test_a_full_disk_ends_no_server(workers):
    """What it has to say is lost, and workers are forked."""
    with serving(workers, "preloaded", log="/dev/full") as server:
        assert workers.start(RAY_OTHER="1")["has imported"] is False
        forked = workers.start()
        assert (forked["parent"], forked["output"]) == (server.pid, "said\n")


def test_a_request_that_is_too_long_is_not_sent(workers):
    """A worker of a very large environment starts by itself."""
    with serving(workers, "preloaded"):
        half = start_worker.MESSAGE_BYTES // 2
        assert workers.start(ONE="x" * half)["has imported"] is True
        assert workers.start(ONE="x" * half, TWO="x" * half)["has imported"] is False
        with pytest.raises(NotForked, match="too long"):
            workers.driver(ONE="x" * half, TWO="x" * half)


def test_a_process_that_the_system_ends_first_stays_so(workers):
    """Ray raises the score of what it has started, which is not what has it in the end."""
    file = workers.folder / "ended"
    starts = "input(); import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    with (
        serving(workers, "preloaded"),
        subprocess.Popen(
            [sys.executable, "-c", starts, start_worker.__file__, str(file)],
            env={**workers.environment, ADDRESS: str(workers.server)},
            stdin=subprocess.PIPE,
        ) as asker,
    ):
        Path(f"/proc/{asker.pid}/oom_score_adj").write_text("321")
        assert asker.stdin
        asker.stdin.write(b"\n")
        asker.stdin.close()
        assert asker.wait(30) == 0
        wait_until(file.exists)
        assert json.loads(file.read_text())["oom_score"] == "321\n"


def test_a_driver_that_is_forked_answers_until_its_input_ends(workers):
    """In the folder, the environment and the log of its command."""
    with serving(workers, "preloaded"):
        driver = workers.driver(OTHER="1")
        for word in ("one", "two"):
            driver.stdin.write(f"{word}\n")
            driver.stdin.flush()
            assert driver.stdout.readline() == f"{word} {workers.folder} 1 True\n"
        driver.stdin.close()
        assert driver.stdout.read() == ""
        driver.wait(30)
        driver.kill()
        driver.wait(30)
        driver.stdout.close()
        assert (workers.folder / "driver.log").read_text() == "the end\n"


def test_a_driver_is_ended_whatever_it_does(workers):
    """From any thread, and once more."""
    with serving(workers, "preloaded") as server:
        driver = workers.driver()
        (child,) = psutil.Process(server.pid).children()
        child.send_signal(signal.SIGSTOP)
        driver.kill()
        driver.wait(30)
        assert driver.stdout.read() == ""
        driver.kill()
        driver.stdin.close()
        driver.stdout.close()
        until = time.monotonic() + 30
        while child.is_running() and time.monotonic() < until:
            time.sleep(0.01)
        assert not child.is_running()


def test_a_driver_of_another_environment_is_not_forked(workers):
    """It is started by its command then."""
    with serving(workers, "preloaded"), pytest.raises(NotForked, match="refused"):
        workers.driver(PYTHONPATH=str(workers.folder))
