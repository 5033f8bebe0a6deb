"""A project of a user's: a folder with a file, a state folder and a port of its own, and the command on it."""

from __future__ import annotations

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

from deployments import ports, processes
from deployments.home import Home

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

STAGES = """\
import ctypes, os, sys, time

def say(name: str) -> dict[str, str]:
    print("asked by", name)
    return {"said": name, "pid": str(os.getpid())}

def slow(name: str) -> dict[str, str]:
    open(name, "w").close()
    time.sleep(2)
    return {"said": name}

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


def function(name: str, stage: str = "stages_of_a_test:say", least: int = 1, gpus: float = 0, more: str = "", scaling: str = "") -> str:
    """Its entry in the file."""
    return FUNCTION.format(name=name, stage=stage, least=least, gpus=gpus, more=more, scaling=scaling)


@dataclass
class Project:
    """A folder with a file, a state folder and a port of its own."""

    folder: Path
    short: str
    port: int
    more: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        """Its state folder."""
        return Home(Path(self.short) / f"wakeful-{os.getuid()}")

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def declare(self, *functions: str) -> None:
        """Write the file."""
        (self.folder / "serve_config.yaml").write_text("applications:\n" + "".join(functions))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        environ = {**os.environ, "TMPDIR": self.short, "WAKEFUL_PORT": str(self.port), **self.more}
        command = [sys.executable, "-m", "deployments.cli", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command to its end: that of its streams, which nobody it leaves behind may hold."""
        with self.start(*arguments) as child:
            out, err = child.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, child.returncode, out, err)

    def state(self, name: str) -> dict[str, str]:
        """What `status` says of a function."""
        return json.loads(self.run("status", name, "--json").stdout)

    @contextmanager
    def served(self, *applications: str, timeout_s: float = 30) -> Iterator[httpx.Client]:
        """These are up, and are taken down without a trace; a client of the server."""
        self.declare(*applications)
        outcome = self.run("up", "--detach")
        assert outcome.returncode == 0, outcome.stderr
        with httpx.Client(base_url=self.url, timeout=timeout_s) as client:
            yield client
        assert self.run("down").returncode == 0
        assert self.is_clean()

    def is_clean(self) -> bool:
        """No process and no port is left."""
        return not processes.ours(self.home.path) and ports.is_free("127.0.0.1", self.port)


def state(client: httpx.Client, name: str) -> dict[str, Any]:
    """What the catalogue says of a function; looking wakes nobody."""
    found: dict[str, Any] = next(entry for entry in client.get("/").json()["functions"] if entry["name"] == name)
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Polls, for a minute at most: a promotion or an update takes seconds, on a box with others on it several times that."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)
