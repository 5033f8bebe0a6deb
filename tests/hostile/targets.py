"""The same functions, served in every way that there is, and what hostile bytes are sent to."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from tests import basic
from tests.certificates import authority, write_files
from tests.deployments.local.running import shell
from tests.deployments.projects import HOST, Standing, wait_until
from tests.hostile.exchanges import exchange
from wakeful import testing

SEEN, RARE, WAIT = "/v2/models/seen", "/v2/models/seen_rare", "/v2/models/wait"

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph: [{{stage: record, python: "tests.hostile.stages:Record", with: {{to: {to}}}}}]
      accepts: ["*/*"]
      autoscaling: {{min_replicas: {least}}}
"""

WAITS = """\
  - name: wait
    route_prefix: /v2/models/wait
    import_path: deployments:function
    args:
      graph: [{stage: wait, python: "tests.hostile.stages:wait"}]
      batching: {max_batch_size: 1}
      limits: {max_ongoing_requests: 2, max_queued_requests: 2}
"""
"""Takes few calls at once, each as long as it says."""

TLS = "http: {tls: {cert: tls/cert.pem, key: tls/key.pem}}\n"

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """A server of the functions.

    Attributes:
        name: `in process`, `run`, `workers` or `up`.
        port: that clients connect to.
        record: the file in which the functions write what they were called with.
        processes: those of ours that serve, by id, each with what it is.
    """

    name: str
    port: int
    record: Path
    processes: Callable[[], dict[int, str]]

    @property
    def is_behind_haproxy(self) -> bool:
        """Whether HAProxy reads the bytes first."""
        return self.name in ("workers", "up")

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.port}"

    def seen(self) -> list[tuple[str, bytes]]:
        """Marker and body of each call that has reached `seen` or `seen_rare`, in their order."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        found = [json.loads(line) for line in lines]
        return [(one["marker"], base64.b64decode(one["body"])) for one in found]

    def own_ports(self, path: str = SEEN) -> list[int]:
        """Where the processes that answer calls of a path listen by themselves, past HAProxy."""
        asked = b"GET %b/ready HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n" % path.encode()
        ports = [port for pid in self.processes() for port in _listening(pid)]
        return [
            port
            for port in ports
            if port != self.port and exchange(port, asked, wait_s=5).statuses == [200]
        ]

    def is_well(self) -> bool:
        """Whether it is alive, and answers another client rightly."""
        live = httpx.get(f"{self.url}/v2/health/live", timeout=30)
        answer = httpx.post(f"{self.url}{basic.MEAN}", json={"values": [1, 3]}, timeout=30)
        return live.status_code == 200 and answer.json() == {
            "mean": 2.0,
            "twice": [2.0, 2.0],
            "label": "2.0 m",
        }


def _listening(pid: int) -> list[int]:
    with suppress(psutil.Error):
        found = psutil.Process(pid).net_connections("tcp4")
        return [one.laddr.port for one in found if one.status == psutil.CONN_LISTEN]
    return []


def functions(record: Path) -> str:
    """Their entries in the file."""
    own, rare = (
        FUNCTION.format(name=name, least=least, to=record)
        for name, least in (("seen", 1), ("seen_rare", 0))
    )
    return basic.FUNCTIONS + own + rare + WAITS


def write(folder: Path) -> tuple[Path, Path]:
    """The file of all of them, and that of their record."""
    file, record = basic.write(folder), folder / "record"
    file.write_text(basic.DECLARATION.replace(basic.FUNCTIONS, functions(record)))
    return file, record


@contextmanager
def in_process(folder: Path) -> Iterator[Target]:
    """In this process, as `wakeful run` serves."""
    file, record = write(folder)
    with testing.serve(file) as app:
        port = urlsplit(app.url).port
        assert port
        yield Target("in process", port, record, lambda: {os.getpid(): "tests"})


@contextmanager
def run(folder: Path, workers: int = 1, *, has_tls: bool = False) -> Iterator[Target]:
    """By `wakeful run`, in one process or several behind HAProxy.

    Args:
        has_tls: by TLS alone, with a certificate of ``certificates.authority``.
    """
    with shell(folder) as project:
        file, record = write(folder)
        if has_tls:
            write_files(folder / "tls", authority().issue())
            file.write_text(TLS + file.read_text())
        options = ["--workers", str(workers)] if workers > 1 else []
        with project.serving(*options) as running:
            port = urlsplit(running.url).port
            assert port

            def processes() -> dict[int, str]:
                parent = psutil.Process(running.process.pid)
                return _titled([parent, *parent.children(recursive=True)])

            yield Target("workers" if workers > 1 else "run", port, record, processes)


@contextmanager
def up(standing: Standing) -> Iterator[Target]:
    """By `wakeful up`: `mean` and `seen` have replicas of their own, the host has the others."""
    _, record = write(standing.folder)
    record.unlink(missing_ok=True)
    hosted = functions(record).split("  - name: ")
    text = "  - name: ".join(
        one
        if one.split("\n")[0] in ("mean", "seen")
        else one.replace("min_replicas: 1", "min_replicas: 0")
        for one in hosted
    )
    with standing.served(*HOST, text) as client:

        def answers() -> bool:
            return client.post(RARE, content=b"warm", headers=BYTES).status_code == 200

        wait_until(answers)
        yield Target("up", standing.port, record, lambda: _of_cluster(standing))


BYTES = {"content-type": "application/octet-stream"}


def _of_cluster(standing: Standing) -> dict[int, str]:
    from deployments.ray_support.processes import cluster_processes

    found = _titled(cluster_processes(standing.home.path))
    return {
        pid: title for pid, title in found.items() if title.startswith(("ServeReplica", "haproxy"))
    }


def _titled(processes: list[psutil.Process]) -> dict[int, str]:
    found = {}
    for process in processes:
        with suppress(psutil.Error):
            command = process.cmdline()
            title = command[0].rpartition("/")[2].removeprefix("ray::").split("#")[0]
            found[process.pid] = title.partition("()")[0].strip()
    return found
