"""`wakeful up` as a user starts it, with other settings and in a state folder of its own; and what its catalogue tells."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from deployments.decisions import FILE
from loadtests.bench import memory
from loadtests.bench.children import Child, ChildFailed, poll
from loadtests.bench.serving import HOST, WAKEFUL, down, marked

UP_S = 600.0
"""Longest `wakeful up`: fifty models may have to be prepared first."""

LATE_S = 20.0
"""How long after its delay a function may fall asleep before the section is given up; what is promised is half of it."""

SHORT = Path("/tmp")
"""Where a state folder's path is short enough for Ray's sockets, whatever the system's folder for temporary files is."""


@dataclass(frozen=True, slots=True)
class Wakeful:
    """One that is up.

    Attributes:
        port: its HTTP port on loopback.
        up_s: seconds that the command took.
        run: the id its processes carry.
        home: its state folder.
        urls: the path of each function, by name.
        environ: the environment it was started with; other commands about it need the same.
    """

    port: int
    up_s: float
    run: str
    home: Path
    urls: Mapping[str, str]
    environ: Mapping[str, str] = field(repr=False)
    client: httpx.Client = field(repr=False)

    def url(self, name: str) -> str:
        """The whole URL of a function."""
        return f"http://{HOST}:{self.port}{self.urls[name]}"

    def post(self, name: str, body: Mapping[str, object]) -> Any:
        """One call outside of what is timed; the decoded answer.

        Raises:
            ChildFailed: it was not served.
        """
        return self._good(self.client.post(self.urls[name], json=body))

    def entry(self, name: str) -> dict[str, Any]:
        """What the catalogue tells of a function, with its decisions. Wakes nobody."""
        found: dict[str, Any] = self._good(self.client.get(f"/functions/{name}"))
        return found

    def listed(self) -> list[dict[str, Any]]:
        """All functions."""
        found: list[dict[str, Any]] = self._good(self.client.get("/"))["functions"]
        return found

    def wait(self, name: str, state: str, within_s: float) -> float:
        """Seconds until a function was seen in a state.

        Raises:
            ChildFailed: it was not, in time.
        """
        entry: dict[str, Any] = {}
        for passed in poll(within_s, every_s=0.05):
            entry = self.entry(name)
            if entry["state"] == state and not entry["doing"]:
                return passed
        raise ChildFailed(f"{name} is not {state} after {within_s:g} s: {entry['state']} {entry['doing']} {entry['reason']}".strip())

    def scaled(self, name: str, since: float) -> list[dict[str, Any]]:
        """Decisions on a function's replicas after a moment, seconds since the epoch, from the file that ``up`` keeps."""
        file = self.home / FILE
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [told for told in map(json.loads, lines) if told["function"] == name and told["at"] >= since]

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to it."""
        return memory.cluster_processes(self.run)

    def host(self) -> psutil.Process:
        """The process of the shared host.

        Raises:
            ChildFailed: there is none, or there are several.
        """
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if "ServeReplica:host" in " ".join(process.cmdline()):
                    found.append(process)
        if len(found) != 1:
            raise ChildFailed(f"{len(found)} processes of the shared host, where one was expected.")
        return found[0]

    @staticmethod
    def _good(answer: httpx.Response) -> Any:
        if answer.status_code != 200:
            raise ChildFailed(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()


@contextlib.contextmanager
def up(
    file: Path, port: int, log: Path, settings: Mapping[str, str] | None = None, wakeful: Sequence[str] = WAKEFUL, short: Path = SHORT
) -> Iterator[Wakeful]:
    """`wakeful up --detach`, then `wakeful down`; what survives that is ended by id, and the state folder goes.

    Args:
        settings: environment variables beside those that it needs.

    Raises:
        ChildFailed: the port is taken, `up` or `down` failed, or `down` left processes behind.
    """
    run, environ = marked(port)
    folder = Path(tempfile.mkdtemp(prefix="wk-", dir=short))
    environ = {**environ, **(settings or {}), "TMPDIR": str(folder)}
    urls = {entry["name"]: entry["route_prefix"] for entry in json.loads(file.read_text())["applications"]}
    try:
        with Child([*wakeful, "up", "--detach", str(file)], log, environ=environ) as command:
            try:
                if command.wait(UP_S):
                    raise command.failure("failed")
                up_s = time.perf_counter() - command.started
                with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=30.0) as client:
                    yield Wakeful(port, up_s, run, folder / f"wakeful-{os.getuid()}", urls, environ, client)
            finally:
                command.close()
                down(wakeful, environ, run, log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
