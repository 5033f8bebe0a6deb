"""HAProxy told to end: a real one, with one call in flight, and no Ray."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deployments.draining import drain, longest_s
from deployments.haproxy import DRAINING, binary
from deployments.rayenv import MARK
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
    text = CONFIGURATION.format(folder=folder, port=port, behind=behind.getsockname()[1], variable=DRAINING)
    (folder / "haproxy.cfg").write_text(text)
    with subprocess.Popen([binary(), "-db", "-f", str(folder / "haproxy.cfg")], env={**os.environ, MARK: str(home)}) as proxy:
        wait_until((folder / "s").exists)
        yield port
        proxy.kill()


def test_what_was_accepted_is_waited_for(home, port, behind):
    """New calls are refused meanwhile; it ends once the call in flight is answered, and the port is closed then."""
    found = []
    with closing(Wire(port)) as caller:
        caller.send(("POST", "/v2/models/f", {"x": 1}))
        replica, _ = behind.accept()
        ending = threading.Thread(target=lambda: found.append(drain(home, port, 30, lambda: False)))
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


def test_a_haproxy_without_the_rule_cannot_be_asked(home, port):
    """Its port is closed, and somebody else has to say when all is answered."""
    configuration = home / "hap" / "node" / "haproxy.cfg"
    configuration.write_text(configuration.read_text().replace(DRAINING, "proc.other"))
    assert drain(home, port, 30, lambda: False) == "unknown"
    with pytest.raises(ConnectionRefusedError):
        Wire(port)


@pytest.mark.parametrize(
    ("applications", "seconds"),
    [
        ([], 30),
        ([{"name": "other"}], 30),
        ([{"args": {"limits": {"request_timeout_s": 5}}}], 5),
        ([{"args": {"limits": {"request_timeout_s": 60}}}, {"args": {}}], 60),
        ([{"args": {"functions": [{"args": {"limits": {"request_timeout_s": 90}}}, {"args": {}}]}}], 90),
    ],
)
def test_the_longest_deadline_of_what_is_deployed(applications, seconds):
    """Of applications, and of the functions that a host is told of; who says nothing has the default's."""
    assert longest_s(applications) == seconds


def _status(port: int) -> int:
    with closing(Wire(port)) as caller:
        caller.send(("GET", "/v2/health/ready", None))
        return caller.read()[0]
