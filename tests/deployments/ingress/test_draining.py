"""HAProxy that has to end: a real one, with one call in flight, and no Ray."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from deployments.ingress import draining
from deployments.ingress.draining import drain, is_begun, take_back
from deployments.ingress.haproxy.rules import DRAINING
from deployments.ingress.haproxy_config import binary
from deployments.ray_support.environment import MARK
from deployments.ray_support.ports import is_free
from deployments.ray_support.processes import by_name
from tests.deployments.projects import wait_until
from tests.serving import free_port
from tests.wire import Wire

pytestmark = pytest.mark.slow

CONFIGURATION = """\
global
    stats socket {folder}/s mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
    option idle-close-on-response
frontend http_frontend
    bind 127.0.0.1:{port}
    http-request return status 503 if {{ var({variable}) -m bool }}
    http-request return status 200 if {{ path /v2/health/ready }}
    http-after-response set-header connection close if {{ var({variable}) -m bool }}
    default_backend replicas
backend replicas
    server one 127.0.0.1:{behind}
"""


DISPLACED = """\
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend http_frontend
    bind 127.0.0.1:{port}
    http-request return status 200
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder as Ray's HAProxy leaves it."""
    (tmp_path / "hap" / "node").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def behind() -> Iterator[socket.socket]:
    """A replica that answers when the test does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def port(home: Path, behind: socket.socket) -> Iterator[int]:
    """HAProxy's."""
    port, folder = free_port(), home / "hap" / "node"
    text = CONFIGURATION.format(
        folder=folder, port=port, behind=behind.getsockname()[1], variable=DRAINING
    )
    (folder / "haproxy.cfg").write_text(text)
    with subprocess.Popen(
        [binary(), "-db", "-f", str(folder / "haproxy.cfg")], env={**os.environ, MARK: str(home)}
    ) as proxy:
        wait_until((folder / "s").exists)
        yield port
        proxy.kill()


def test_what_was_accepted_is_waited_for(home, port, behind):
    """New calls are refused meanwhile; it ends once the call in flight is answered, and the port is
    closed then.
    """
    found = []
    with closing(Wire(port)) as caller:
        caller.send(("POST", "/v2/models/f", {"x": 1}))
        replica, _ = behind.accept()
        ending = threading.Thread(target=lambda: found.append(drain(home, 30, lambda: False)))
        ending.start()
        wait_until(lambda: _status(port) == 503)
        assert ending.is_alive()
        replica.recv(4096)
        replica.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        status, headers, body = caller.read()
        assert (status, headers["connection"], body) == (200, "close", b"ok")
        ending.join(20)
        replica.close()
    assert found == ["answered"]
    with pytest.raises(ConnectionRefusedError):
        Wire(port)


def test_a_haproxy_without_the_rule_cannot_be_queried(home, port):
    """Its port is closed, and another process has to find out when all is answered."""
    configuration = home / "hap" / "node" / "haproxy.cfg"
    configuration.write_text(configuration.read_text().replace(DRAINING, "proc.other"))
    assert drain(home, 30, lambda: False) == "unknown"
    with pytest.raises(ConnectionRefusedError):
        Wire(port)


def test_a_drain_that_was_cut_off_is_taken_back(home, port, tmp_path):
    """Its command was killed: HAProxy would refuse calls for ever, and not be restarted."""
    program = tmp_path / "ray::HAProxyManager"
    program.symlink_to(shutil.which("sleep") or "")
    with subprocess.Popen([str(program), "60"], env={**os.environ, MARK: str(home)}) as manager:
        try:
            wait_until(lambda: psutil.Process(manager.pid).name().startswith("ray::HAProxyMana"))
            assert not is_begun(home)
            drain(home, 0, Patience())
            assert is_begun(home)
            assert _status(port) == 503
            take_back(home)
            assert not is_begun(home)
            assert _status(port) == 200
        finally:
            manager.kill()  # one that is suspended, too, and would never end


def test_new_requests_are_refused_for_a_while_before_the_port_closes(home, port, monkeypatch):
    """A load balancer sees readiness fail, though nothing is in flight."""
    monkeypatch.setattr(draining, "LINGER_S", math.inf)
    looks = iter([False] * 5)
    assert drain(home, 30, lambda: next(looks, True)) == "over"
    assert _status(port) == 503
    monkeypatch.setattr(draining, "LINGER_S", 0.0)
    assert drain(home, 30, lambda: False) == "answered"
    with pytest.raises(ConnectionRefusedError):
        Wire(port)


def test_a_displaced_haproxy_that_may_hold_a_call_keeps_the_port_open(home, port, tmp_path):
    """It has given its socket away, and is asked for nothing any more: its call may be of a
    function that calls others. After the longest deadline it holds none.
    """
    (tmp_path / "displaced.cfg").write_text(DISPLACED.format(port=free_port()))
    command = [binary(), "-db", "-f", str(tmp_path / "displaced.cfg")]
    with subprocess.Popen(command, env={**os.environ, MARK: str(home)}) as displaced:
        try:
            wait_until(lambda: psutil.Process(displaced.pid).name() == "haproxy")
            assert drain(home, 60, lambda: False) == "unknown"
            assert _status(port) == 503
            assert drain(home, -60, Patience()) == "over"
        finally:
            displaced.kill()
    assert drain(home, 60, lambda: False) == "answered"


def test_a_haproxy_whose_socket_does_not_answer_is_not_taken_for_idle(home, port, monkeypatch):
    """Another process has to find out when all is answered, and no new call comes meanwhile: it
    closes the port as soon as it runs again.
    """
    monkeypatch.setattr(draining, "ANSWER_S", 0.1)
    (proxy,) = by_name(home, "haproxy")
    proxy.suspend()
    try:
        assert drain(home, 30, lambda: False) == "unknown"
    finally:
        proxy.resume()
    wait_until(lambda: is_free("127.0.0.1", port))


class Patience:
    """Is over at the second look, so that the port is not closed."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> bool:
        self.looks += 1
        return self.looks > 1


def _status(port: int) -> int:
    with closing(Wire(port)) as caller:
        caller.send(("GET", "/v2/health/ready", None))
        return caller.read()[0]
