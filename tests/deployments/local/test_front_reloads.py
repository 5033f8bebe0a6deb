"""A client keeps a connection while the HAProxy of a run is started anew, by an edit of its rules: what
comes by that connection is passed on to the newest.
"""

from __future__ import annotations

import http.client
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from deployments.ingress import admin_socket
from deployments.ingress.haproxy.rules import NEWEST
from deployments.local import front as front_module
from deployments.local.front import Front, FrontFailed, FrontRules
from runtime.declaration.access.key_file import write_keys
from runtime.declaration.access.key_table import KeyTable
from runtime.declaration.access.keys import AccessKey, KeyDigest, digest_of, make_key
from tests.deployments.ingress.haproxy.proxies import Replica, is_listening, replicas
from tests.deployments.local.fronts import CORS, listening
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow


def keep(bound: socket.socket, stack: ExitStack, key: str = "") -> http.client.HTTPConnection:
    """A connection that has had an answer, and is not opened again."""
    client = http.client.HTTPConnection(*bound.getsockname(), timeout=60)
    stack.enter_context(closing(client))
    assert call(client, key) == 200
    client.auto_open = 0
    return client


def call(client: http.client.HTTPConnection, key: str = "") -> int:
    """The status of a call."""
    client.request("POST", "/v2/models/f", b"", {"x-api-key": key} if key else {})
    return read_status(client)


def read_status(client: http.client.HTTPConnection) -> int:
    """Of the answer to what was sent."""
    answer = client.getresponse()
    answer.read()
    return answer.status


@contextmanager
def failing_starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What starts listens, and ends before it has proved itself."""
    process_id = admin_socket.process_id

    def fails(path: Path) -> None:
        if process_id(path) is not None:
            raise FrontFailed("it has ended")

    with monkeypatch.context() as patched:
        patched.setattr(admin_socket, "process_id", fails)
        yield


def test_a_connection_to_the_one_before_is_answered_by_the_keys_that_hold(tmp_path):
    """It is told of none any more: what comes to it goes to the newest."""
    table = KeyTable((), tmp_path / "keys.json")
    sent, former, newer = (make_key() for _ in range(3))
    rules = FrontRules(secret="5e", functions={"/v2/models/f": "f"})
    write_keys(table.path, [AccessKey("former", (KeyDigest(digest_of(former)),))])
    with listening() as bound, replicas(1) as (port,), ExitStack() as stack:
        front = Front(tmp_path, [bound], 1, rules, table)
        front.set_port(0, port)
        front.start()
        stack.callback(front.close, 1.0)

        kept = {key: keep(bound, stack, former) for key in (sent, former, newer)}
        before = front.pid
        front.update(replace(rules, cors=CORS))
        assert before is not None
        assert front.pid != before
        wait_until(lambda: not is_listening(before))
        write_keys(table.path, [AccessKey("newer", (KeyDigest(digest_of(newer)),))])
        front.look(lambda line: None)
        assert [call(client, key) for key, client in kept.items()] == [401, 401, 200]


def test_a_call_that_is_sent_once_is_passed_on_once(tmp_path):
    """Where the newest is dead, or dies of it, no process answers in its place."""
    rules, taken = FrontRules(once=("/v2/models/f",)), list[bytes]()
    with listening() as bound, replicas(1) as (port,), ExitStack() as stack:
        front = Front(tmp_path, [bound], 1, rules)
        front.set_port(0, port)
        front.start()
        stack.callback(front.close, 1.0)
        clients, before = [keep(bound, stack) for _ in range(2)], front.pid
        front.update(replace(rules, cors=CORS))
        assert before is not None
        wait_until(lambda: not is_listening(before))
        newest = tmp_path / NEWEST
        assert stat.S_IMODE(newest.stat().st_mode) == 0o600
        newest.unlink()
        assert call(clients[0]) == 503
        server = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        server.bind(str(newest))
        server.listen()

        def take() -> None:
            with suppress(OSError):  # it is closed at the end
                while True:
                    connection, _ = server.accept()
                    with closing(connection):
                        taken.append(connection.recv(65536))

        threading.Thread(target=take, daemon=True).start()
        assert call(clients[1]) == 503
        assert len(taken) == 1


def test_what_one_passes_on_reaches_the_last_that_has_started(tmp_path, monkeypatch):
    """Another may have listened."""
    with listening() as bound, replicas(1) as (port,), ExitStack() as stack:
        front = Front(tmp_path, [bound], 1, FrontRules())
        front.set_port(0, port)
        front.start()
        stack.callback(front.close, 1.0)
        client, before = keep(bound, stack), front.pid
        front.update(FrontRules(cors=CORS))
        assert before is not None
        wait_until(lambda: not is_listening(before))
        with failing_starts(monkeypatch), pytest.raises(FrontFailed):
            front.update(FrontRules())
        assert call(client) == 200


def test_a_start_that_fails_takes_no_place_where_calls_wait(tmp_path, monkeypatch):
    """Calls wait in the one that goes on."""
    with listening() as bound, replicas(1) as (port,), ExitStack() as stack:
        front = Front(tmp_path, [bound], 1, FrontRules())
        front.start()
        stack.callback(front.close, 1.0)
        with failing_starts(monkeypatch), pytest.raises(FrontFailed):
            front.update(FrontRules(cors=CORS))
        client = stack.enter_context(
            closing(http.client.HTTPConnection(*bound.getsockname(), timeout=60))
        )
        client.request("POST", "/v2/models/f", b"")
        sessions = partial(admin_socket.send_command, tmp_path / "s", "show sess")
        wait_until(lambda: "fe=waiting " in (sessions() or ""))
        front.set_port(0, port)
        assert read_status(client) == 200


def test_a_replaced_one_answers_what_it_has_whatever_the_end_has(tmp_path):
    """`WAKEFUL_DRAIN_S` is of the end of the run: neither a call that was under way is cut when it is
    over, nor one that has come since by a connection that was kept.
    """
    rules = FrontRules(drain_s=0.0)
    with listening() as bound, replicas(1) as (port,), ExitStack() as stack:
        front = Front(tmp_path, [bound], 1, rules)
        front.set_port(0, port)
        front.start()
        stack.callback(front.close, 1.0)
        Replica.forget()
        clients = [keep(bound, stack) for _ in range(2)]
        clients[0].request("POST", "/f/late", b"")
        wait_until(lambda: len(Replica.requests) == 3)
        front.update(replace(rules, cors=CORS))
        clients[1].request("POST", "/f/late", b"")
        assert [read_status(client) for client in clients] == [200, 200]


def test_those_that_were_replaced_are_bounded(tmp_path, monkeypatch):
    """Clients that keep their connections keep them, too; of too many the oldest is ended."""
    monkeypatch.setattr(front_module, "MOST_FORMER", 1)
    with listening() as bound, replicas(1) as (port,), ExitStack() as stack:
        front = Front(tmp_path, [bound], 1, FrontRules())
        front.set_port(0, port)
        front.start()
        stack.callback(front.close, 1.0)
        started, clients = [psutil.Process(front.pid)], [keep(bound, stack)]
        for most in (7, 8):
            assert front.update(FrontRules(per_address=most)) is (most == 8)
            wait_until(lambda: not is_listening(started[-1].pid))
            started.append(psutil.Process(front.pid))
            clients.append(keep(bound, stack))
        assert [process.is_running() for process in started] == [False, True, True]
        assert [call(client) for client in clients[1:]] == [200, 200]
