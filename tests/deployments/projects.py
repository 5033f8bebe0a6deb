"""A project of a user's: a folder with a file, a state folder and a port of its own, and the
command on it.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from deployments.ray_support import ports, processes
from deployments.ray_support.state_dir import ClusterState, StateDir
from tests.forked_commands import Commands

COMMANDS = Commands()
"""Of this session of tests."""

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph: [{{stage: s, python: "{stage}"}}]
      autoscaling: {{min_replicas: {least}{scaling}}}
      resources: {{num_gpus: {gpus}}}
      {more}
"""

HOST = (
    '  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}\n',
    '  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}\n',
)
"""The applications that functions sleep and wake in."""

STANDING = {
    "WAKEFUL_PROMOTE_WORK": "0.3",
    "WAKEFUL_HOSTS": "1",
    "WAKEFUL_LOGICAL_CPUS_PER_CORE": "16",
    "WAKEFUL_ACCESS_LOG": "access.log",
    "PYTHONPATH": str(Path(__file__).parent.parent.parent),
}
"""The environment of the standing cluster: what is called all the time is promoted soon, replicas of
all sizes fit, the stages of ``tests`` are found, and calls are logged in its folder."""

STAGES = """\
import ctypes, os, sys, time
from collections.abc import Iterator

def say(name: str) -> dict[str, str]:
    print("asked by", name)
    return {"said": name, "pid": str(os.getpid())}

def slow(name: str) -> dict[str, str]:
    open(name, "w").close()
    time.sleep(2)
    return {"said": name}

def held(begun: str, go: str) -> dict[str, str]:
    open(begun, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return {"said": begun}

def drip(to: int, folder: str, fault_at: int = -1) -> Iterator[dict[str, int]]:
    os.makedirs(folder, exist_ok=True)
    try:
        for n in range(to):
            while n and not os.path.exists(f"{folder}/go"):
                time.sleep(0.01)
            if n == fault_at:
                raise ValueError("a secret")
            yield {"n": n, "pid": os.getpid()}
    finally:
        open(f"{folder}/closed", "w").close()

class Late:
    def __init__(self) -> None:
        time.sleep(1)

    def __call__(self, name: str) -> dict[str, str]:
        return say(name)

def work(ms: int) -> dict[str, str]:
    until = time.perf_counter() + ms / 1000
    while time.perf_counter() < until:
        pass
    return {"pid": str(os.getpid())}

def crash(name: str) -> dict[str, str]:
    if name == "crash":
        ctypes.string_at(0)
    return {"said": name, "pid": str(os.getpid())}

class BrokenOnRay:
    def __init__(self) -> None:
        if "ray" in sys.modules:
            raise ValueError("not on this machine")

    def __call__(self, name: str) -> dict[str, str]:
        return {}


class OnlyInHost:
    def __init__(self) -> None:
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            from ray import serve
            if serve.get_replica_context().app_name != "host":
                raise ValueError("it lives in the host only")

    def __call__(self, ms: int) -> dict[str, str]:
        return work(ms)

class Broken:
    def __init__(self) -> None:
        raise ValueError("the weights are not there")

    def __call__(self, name: str) -> dict[str, str]:
        return {}
"""


def function(
    name: str,
    stage: str = "stages_of_a_test:say",
    least: int = 1,
    gpus: float = 0,
    more: str = "",
    scaling: str = "",
) -> str:
    """Its entry in the file."""
    return FUNCTION.format(
        name=name, stage=stage, least=least, gpus=gpus, more=more, scaling=scaling
    )


@contextmanager
def starting() -> Iterator[None]:
    """Held by what starts a cluster: Ray is given ports that were free a moment before, and of two
    starts at once both would take them.
    """
    with (Path("/tmp") / f"wakeful-tests-{os.getuid()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass
class Project:
    """A folder with a file, a state folder and a port of its own."""

    folder: Path
    short: str
    port: int
    more: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> StateDir:
        """Its state folder."""
        return StateDir(Path(self.short) / f"wakeful-{os.getuid()}")

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def declare(self, *functions: str) -> None:
        """Write the file."""
        (self.folder / "serve_config.yaml").write_text("applications:\n" + "".join(functions))

    @property
    def environment(self) -> dict[str, str]:
        """Of every command."""
        return {
            **os.environ,
            "TMPDIR": self.short,
            **({"WAKEFUL_PORT": str(self.port)} if self.port else {}),
            "WAKEFUL_CAPTURES": str(self.folder / "captures"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            **self.more,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        command = [sys.executable, "-m", "deployments.cli", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command to its end: that of its streams, which no process that it leaves may hold. On
        a box with a load average of 40 an `up` takes more than two minutes.
        """
        return COMMANDS.run(arguments, self.folder, self.environment, 300)

    def state(self, name: str) -> dict[str, str]:
        """What `status` says of a function."""
        return json.loads(self.run("status", name, "--json").stdout)

    @contextmanager
    def served(self, *applications: str, timeout_s: float = 30) -> Iterator[httpx.Client]:
        """These are up, and are taken down without a trace; a client of the server."""
        self.declare(*applications)
        outcome = self.run("up", "--detach")
        assert outcome.returncode == 0, f"{outcome.stderr}\n{self.proxy_log()}"
        with httpx.Client(base_url=self.url, timeout=timeout_s) as client:
            yield client
        assert self.run("down").returncode == 0
        assert self.is_clean()

    def proxy_log(self) -> str:
        """The end of what Serve writes of its proxies and of HAProxy: why one took no routes."""
        files = sorted((self.home.logs / "serve").glob("*proxy*.log"))
        return "\n".join(f"{one.name}:\n{one.read_text(errors='replace')[-5000:]}" for one in files)

    def is_clean(self) -> bool:
        """No process and no port is left."""
        return not processes.cluster_processes(self.home.path) and ports.is_free(
            "127.0.0.1", self.port
        )


class Standing(Project):
    """A project whose cluster is up for all tests that use it: what a test serves replaces what the
    one before it did, since an update takes 2 to 4 s where a start and an end take 12. A test that
    kills gives its functions names of its own: the cluster remembers.

    Attributes:
        is_doubtful: a test has failed; the next one begins with a cluster of its own.
    """

    def __init__(self, folder: Path, short: str) -> None:
        super().__init__(folder, short, 0, dict(STANDING))
        self.is_doubtful = False
        self._is_used = False

    def declare(self, *functions: str) -> None:
        """Write the file; what functions sleep in is always there."""
        super().declare(*(HOST if HOST[0] not in functions else ()), *functions)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As ever; a first `up` begins alone, and finds a free port."""
        self._is_used = True
        if arguments[0] != "up" or processes.is_running(self.home.path):
            return super().run(*arguments)
        with starting():
            self.port = ports.find_free("127.0.0.1", 8000)
            return super().run(*arguments)

    def end(self) -> None:
        """Takes the cluster down, without a trace; a later `up` starts another. Idempotent."""
        if self._is_used:
            assert self.run("down").returncode == 0
            self._is_used = False
            assert self.is_clean()

    @contextmanager
    def served(self, *applications: str, timeout_s: float = 30) -> Iterator[httpx.Client]:
        """These are up, and nothing else; a client of the server. They stay until others are."""
        if self.is_doubtful:
            self.run("down")
            processes.end_processes(self.home.path)
            self.is_doubtful = False
        self.more = dict(STANDING)
        self.declare(*applications)
        outcome = self.run("up", "--detach", "--num-gpus", "2")
        assert outcome.returncode == 0, f"{outcome.stderr}\n{self.proxy_log()}"
        with httpx.Client(base_url=self.url, timeout=timeout_s) as client:
            yield client

    def with_anything(self) -> ClusterState:
        """It is up, with whatever the test before served."""
        if not processes.is_running(self.home.path):
            with self.served():
                pass
        up = self.home.load()
        assert up
        return up


def state(client: httpx.Client, name: str) -> dict[str, Any]:
    """What the catalogue says of a function; reading it loads no function."""
    found: dict[str, Any] = next(
        entry for entry in client.get("/").json()["functions"] if entry["name"] == name
    )
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Polls, for a minute at most: a promotion or an update takes seconds, on a box with others on
    it several times that. What is asked for takes its cores from what is waited for.
    """
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)
