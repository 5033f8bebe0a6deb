"""What HAProxy has answered, read from a real one, and no Ray."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.ingress.admin_socket import send_command
from deployments.ingress.haproxy.lacks import CLOSED, PROMISES
from deployments.ingress.haproxy.rules import KEPT
from deployments.ingress.haproxy_config import binary
from deployments.ingress.haproxy_metrics import HaproxyWatch, read_haproxy_metrics
from deployments.ray_support.environment import MARK
from tests.deployments.projects import wait_until
from tests.serving import free_port

CONFIGURATION = """\
global
    stats socket {folder}/s mode 600 level admin
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 1s
frontend prometheus
    bind 127.0.0.1:{other}
frontend http_frontend
    bind 127.0.0.1:{port}
    http-request return status 200 if {{ path / }}
    http-request return status 404 if {{ path /unknown }}
    default_backend replicas
backend replicas
"""


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A HAProxy without a server, in a state folder as Ray leaves it."""
    monkeypatch.setenv(MARK, str(tmp_path))
    folder, port = tmp_path / "hap" / "node", free_port()
    folder.mkdir(parents=True)
    (folder / "haproxy.cfg").write_text(
        CONFIGURATION.format(folder=folder, port=port, other=free_port())
    )
    with subprocess.Popen([binary(), "-db", "-f", str(folder / "haproxy.cfg")]) as proxy:
        wait_until((folder / "s").exists)
        yield port
        proxy.kill()


def samples() -> dict[tuple[str, str], float]:
    """Every number by its name and its ``code``."""
    return {
        (sample.name, sample.labels.get("code", "")): sample.value
        for family in text_string_to_metric_families(read_haproxy_metrics())
        for sample in family.samples
        if sample.labels.get("proxy") == "http_frontend"
    }


def test_its_own_answers_are_counted(port: int) -> None:
    """404 where no function is, 503 where nothing answers, 400 for what is no HTTP."""
    for path, status in (("/", 200), ("/unknown", 404), ("/unknown", 404), ("/f", 503)):
        assert httpx.get(f"http://127.0.0.1:{port}{path}").status_code == status
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    name = "haproxy_frontend_http_responses_total"
    counts = samples()
    assert [counts[name, code] for code in ("2xx", "4xx", "5xx")] == [1, 3, 1]
    assert counts["haproxy_frontend_request_errors_total", ""] == 1


def test_promises_are_those_of_the_haproxy_that_runs(port: int, tmp_path: Path) -> None:
    """Whatever was written down: this one has a configuration that makes none, and is told of one."""

    def kept() -> dict[str, float]:
        return {
            sample.labels["promise"]: sample.value
            for family in text_string_to_metric_families(read_haproxy_metrics())
            for sample in family.samples
            if sample.name == "wakeful_haproxy_promise"
        }

    none = dict.fromkeys((*PROMISES, CLOSED), 0)
    assert kept() == none
    admin = tmp_path / "hap" / "node" / "s"
    send_command(admin, f"experimental-mode on; set var {KEPT} str(closed)")
    assert kept() == {**none, CLOSED: 1}


def test_one_process_of_a_machine_reports_its_haproxy(port: int) -> None:
    """The first that looks, and another once that has ended."""
    first, second = HaproxyWatch("10.0.0.1"), HaproxyWatch("10.0.0.1")
    report = first.read()
    assert report is not None
    assert report.machine == "10.0.0.1"
    assert "wakeful_haproxy_promise" in report.metrics
    assert second.read() is None
    first.close()
    assert second.read() is not None
    second.close()


def test_without_haproxy_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster that is not ours, or where HAProxy has just died."""
    monkeypatch.delenv(MARK, raising=False)
    assert read_haproxy_metrics() == ""
    monkeypatch.setenv(MARK, str(tmp_path))
    assert read_haproxy_metrics() == ""
    (tmp_path / "hap" / "node").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead, suppress(OSError):
        dead.bind(str(tmp_path / "hap" / "node" / "s"))
        assert read_haproxy_metrics() == ""
