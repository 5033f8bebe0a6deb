"""HAProxy before several processes: what its configuration says, and that it takes it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import httpx
import psutil
import pytest

from deployments.ingress import access_table, admin_socket
from deployments.ingress.haproxy.access import make_files
from deployments.ingress.haproxy.rules import CONSOLE, DRAINING
from deployments.ingress.haproxy_config import binary
from deployments.local import front as front_module
from deployments.local.front import Front, FrontFailed, FrontRules, write_config
from deployments.local.process_run import require_front
from deployments.local.supervisor import Supervisor  # noqa: F401  # the floors below it import
from deployments.ray_support.environment import BUFFER_BYTES, CONNECTIONS
from runtime.declaration import config_file
from runtime.declaration.access import key_table
from runtime.declaration.access.key_file import write_keys
from runtime.declaration.access.key_table import KeyTable
from runtime.declaration.access.keys import AccessKey, KeyDigest, digest_of, make_key
from runtime.declaration.sections import MAX_TIMEOUT_S
from runtime.errors import DeclarationError, Problem
from tests.deployments.ingress.haproxy.proxies import Replica, replicas
from tests.deployments.local.fronts import CORS, listening
from tests.deployments.projects import wait_until
from tests.problems import expect_values


@pytest.mark.parametrize(
    "rules",
    [
        FrontRules(),
        FrontRules(("/v2/models/f", "/v1"), CORS),
        FrontRules(cors=CORS, secret="5e", functions={"/v2/models/f": "f"}),
        FrontRules(cors=CORS, secret="5e", per_address=7),
    ],
)
@pytest.mark.parametrize("places", [(None,), (4001, None, 4003), (None,) * 64])
def test_haproxy_takes_its_configuration(tmp_path, rules, places):
    """Without a warning, whatever serves, whatever the file says and wherever its own files are."""
    folder = tmp_path / "it's #1"
    folder.mkdir()
    with listening() as bound:
        make_files(folder)
        file = folder / "cfg"
        file.write_text(
            write_config(
                folder,
                [bound.fileno()],
                places,
                rules,
                has_keys=bool(rules.functions),
                hosts=["0.0.0.0", "10.0.0.5"],
            )
        )
        checked = subprocess.run(
            [binary(), "-c", "-f", str(file)],
            pass_fds=[bound.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_calls_that_are_sent_once_are_those_of_their_prefixes(tmp_path):
    """`limits.replay: false`; where such a function has a task, the routes by task too."""
    text = """\
applications:
  - name: once
    route_prefix: /v2/models/once
    import_path: deployments:function
    args: {graph: [{stage: s, python: "mine:stage"}], limits: {replay: false}}
  - name: again
    route_prefix: /v2/models/again
    import_path: deployments:function
    args: {graph: [{stage: s, python: "mine:stage"}]}
"""
    file = tmp_path / "serve_config.yaml"
    file.write_text(text)
    rules = FrontRules.of(config_file.read(file), 3.0)
    assert rules.drain_s == 3.0
    functions = {"/v2/models/once": "once", "/v2/models/again": "again"}
    assert rules == FrontRules(("/v2/models/once",), None, 3.0, "", functions)
    file.write_text("http: {connections_per_address: 7}\n" + text)
    assert FrontRules.of(config_file.read(file), 3.0).per_address == 7
    file.write_text(text)
    config = write_config(tmp_path, [3], [None], rules, has_keys=False)
    lines = [line.strip() for line in config.splitlines()]
    for match in ("{ path /v2/models/once }", "{ path_beg /v2/models/once/ }"):
        assert f"use_backend once if {match}" in lines
        assert f"http-request disable-l7-retry if {match}" in lines
    file.write_text(text.replace("replay: false}", "replay: false}, task: embedding"))
    assert FrontRules.of(config_file.read(file), 3.0).once == ("/v2/models/once", "/v1")


def test_no_header_of_a_client_keeps_a_drain_from_its_end(tmp_path):
    """On Ray calls between functions pass while HAProxy drains; here they pass no HAProxy."""
    config = write_config(tmp_path, [3], [None], FrontRules(), has_keys=False)
    (refusal,) = (line for line in config.splitlines() if "return status 503" in line)
    assert refusal.endswith(f"if {{ var({DRAINING}) -m bool }} !{{ path /v2/health/live }}")


def test_a_replaced_one_may_have_the_longest_call_that_there_is(tmp_path):
    """Whatever the file said when it was started: of an edit it passes on to the newest, too."""
    config = write_config(tmp_path, [3], [None], FrontRules(drain_s=0.0), has_keys=False)
    (seconds,) = (line.split()[1] for line in config.splitlines() if "hard-stop-after" in line)
    assert float(seconds.removesuffix("s")) > MAX_TIMEOUT_S + front_module.KEEP_ALIVE_S


def test_several_processes_want_what_writes_haproxys_configuration(monkeypatch):
    """A HAProxy of the system's brings no jinja2; the extra does."""
    require_front("--workers")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(FrontFailed) as refused:
        require_front("--workers")
    assert refused.value.code == "front"
    expect_values(refused.value, "--workers", "jinja2", "pip install 'wakeful[workers]'")


@pytest.mark.slow
def test_it_is_started_again_with_what_holds_then(tmp_path):
    """After its death, and tells of itself."""
    with listening() as bound:
        front = Front(tmp_path, [bound], 2, FrontRules())
        assert front.pid is None
        front.start()
        try:
            first = front.pid
            front.set_port(0, 4001)
            assert front.refuse_new() == 0
            front.kill()
            assert front.has_died
            front.set_port(1, 4002)
            front.start()
            assert not front.has_died
            assert front.pid != first
            config = (tmp_path / "haproxy.cfg").read_text()
            assert stat.S_IMODE((tmp_path / "haproxy.cfg").stat().st_mode) == 0o600
            assert config.count("server w1 127.0.0.1:4001 ") == 5
            assert config.count("server w2 127.0.0.1:4002 ") == 5
        finally:
            front.close(1.0)
        assert front.has_died


@pytest.mark.slow
def test_the_end_waits_for_calls_and_for_no_page(tmp_path):
    """A page of the console is open as long as its reader wants, which its buttons are not, nor
    statistics, which its process tells, too; here all wait for a process.
    """
    with listening() as bound, ExitStack() as stack:
        front = Front(tmp_path, [bound], 1, FrontRules())
        front.start()
        try:
            wake = b"POST /console/functions/f/wake"
            stats = (b"GET /v2/models/stats", b"GET /v2/models/f/versions/1/stats")
            calls = (b"POST /v2/models/f", b"POST /v2/models/stats")
            for line in (b"GET /console/events", wake, *calls, *stats):
                client = socket.create_connection(bound.getsockname(), timeout=30)
                stack.enter_context(client)
                client.sendall(line + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")

            def under_way(backend: str) -> int:
                sessions = admin_socket.send_command(tmp_path / "s", "show sess") or ""
                return sessions.count(f"fe=http_frontend be={backend} ")

            backends = CONSOLE, "console", "workers"
            wait_until(lambda: [under_way(one) for one in backends] == [1, 3, 2])
            assert front.refuse_new() == 5
        finally:
            front.kill()


@pytest.mark.slow
def test_a_call_that_waited_is_sent_again_as_others_are(tmp_path):
    """The process that comes dies of it, or seems to."""
    Replica.forget()
    with listening() as bound, replicas(1) as (port,), ExitStack() as stack:
        front = Front(tmp_path, [bound], 1, FrontRules())
        front.start()
        stack.callback(front.close, 1.0)
        client = stack.enter_context(socket.create_connection(bound.getsockname(), timeout=60))
        client.sendall(b"POST /f/die HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        sessions = partial(admin_socket.send_command, tmp_path / "s", "show sess")
        wait_until(lambda: "fe=waiting " in (sessions() or ""))
        front.set_port(0, port)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert len(Replica.requests) == 2


@pytest.mark.slow
def test_other_rules_are_another_haproxy_s(tmp_path):
    """The one before answers what it has, and ends; whatever comes meets one of the two."""
    with listening() as bound:
        front = Front(tmp_path, [bound], 1, FrontRules(cors=CORS))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v2/models/f"
        front.start()
        try:
            first = psutil.Process(front.pid)
            front.update(FrontRules(cors=CORS))
            assert front.pid == first.pid
            front.update(FrontRules())
            assert front.pid != first.pid
            first.wait(30)
            assert front.refuse_new() == 0
            asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
            assert httpx.options(url, headers=asked, timeout=60).status_code == 405
        finally:
            front.close(1.0)


@pytest.mark.slow
def test_where_another_does_not_start_the_one_before_goes_on(tmp_path, monkeypatch):
    """It is told of keys, of processes and of its end as before, and another may start later."""
    key, said = make_key(), list[str]()
    table = KeyTable((), tmp_path / "keys.json")
    write_keys(table.path, [AccessKey("k", (KeyDigest(digest_of(key)),))])
    rules = FrontRules(secret="5e", functions={"/v2/models/f": "f"})
    other = replace(rules, cors=CORS, functions={"/v2/models/g": "g"})
    with listening() as bound:
        front = Front(tmp_path, [bound], 1, rules, table)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v2/health/ready"

        def known() -> tuple[str, str]:
            """The functions that it has, and that one has which is started again."""
            told = admin_socket.send_command(tmp_path / "s", "show map functions.map") or ""
            return told, (tmp_path / "functions.map").read_text()

        def write_nonsense(*args, **more) -> str:
            assert "/v2/models/f/ f" in known()[0]  # while another starts, too
            return write_config(*args, **more) + "nonsense\n"

        front.start()
        try:
            pid = front.pid
            with monkeypatch.context() as patched:
                patched.setattr(front_module, "write_config", write_nonsense)
                with pytest.raises(FrontFailed) as refused:
                    front.update(other)
            assert refused.value.code == "front"
            expect_values(refused.value, "nonsense")
            assert front.pid == pid
            assert all("/v2/models/f/ f" in text for text in known())
            assert not any("/v2/models/g/" in text for text in known())
            with httpx.Client(headers={"x-api-key": key}, timeout=60) as client:
                assert client.get(url).status_code == 403
                table.path.unlink()
                front.look(said.append)
                assert client.get(url).status_code == 401
            front.set_port(0, 4001)
            servers = admin_socket.send_command(tmp_path / "s", "show servers state workers") or ""
            assert " 4001 " in servers
            assert front.refuse_new() == 0
            front.update(other)
            assert front.pid not in (None, pid)
            assert all("/v2/models/g/ g" in text for text in known())
        finally:
            front.close(1.0)
    assert said == ["keys have changed: 0 are taken."]


def test_keys_that_cannot_be_read_for_a_moment_are_read_again(tmp_path, monkeypatch):
    """One that was removed is taken no more, though the file has not changed since; it is said once."""
    table, said = KeyTable((), tmp_path / "keys.json"), list[str]()
    write_keys(table.path, [AccessKey("k", (KeyDigest(digest_of(make_key())),))])
    front = Front(tmp_path, [], 1, FrontRules(secret="5e"), table)
    write_keys(table.path, [])

    def fails(path):
        raise DeclarationError([Problem(str(path), 0, "", "cannot be read")]) from OSError(5, "")

    with monkeypatch.context() as patched:
        patched.setattr(key_table, "read_keys", fails)
        for _ in range(3):
            front.look(said.append)
    front.look(said.append)
    front.look(said.append)
    assert [text.partition(":")[0] for text in said] == [
        "keys stay as they were, since their file is wrong",
        "keys have changed",
    ]
    assert (tmp_path / "keys.map").read_text() == ""


@pytest.mark.slow
def test_keys_that_change_are_told_to_haproxy(tmp_path):
    """Once; those of a file that is wrong are not, which is said once."""
    table = KeyTable((), tmp_path / "keys.json")
    said: list[str] = []
    with listening() as bound:
        front = Front(tmp_path, [bound], 1, FrontRules(secret="5e"), table)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v2/health/ready"
        front.start()
        try:
            key = make_key()
            with httpx.Client(headers={"x-api-key": key}, timeout=60) as client:
                assert client.get(url).status_code == 401
                digest = KeyDigest(digest_of(key))
                write_keys(table.path, [AccessKey("k", (digest,), scopes=frozenset({"call"}))])
                front.look(said.append)
                assert client.get(url).status_code == 403
                table.path.write_text("{")
                front.look(said.append)
                front.look(said.append)
                assert client.get(url).status_code == 403
                table.path.unlink()
                front.look(said.append)
                assert client.get(url).status_code == 401
        finally:
            front.close(1.0)
    assert [text.partition(":")[0] for text in said] == [
        "keys have changed",
        "keys stay as they were, since their file is wrong",
        "keys have changed",
    ]


@pytest.mark.slow
def test_declared_keys_of_a_new_version_are_told_to_haproxy(tmp_path):
    """To the one that runs; the same ones are no news."""
    keys = [make_key(), make_key()]
    former, newer = (
        KeyTable((AccessKey("k", (KeyDigest(digest_of(key)),)),), tmp_path / "keys.json")
        for key in keys
    )
    said: list[str] = []
    with listening() as bound:
        rules = FrontRules(secret="5e")
        front = Front(tmp_path, [bound], 1, rules, former)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v2/health/ready"

        def answers() -> list[int]:
            return [
                httpx.get(url, headers={"x-api-key": key}, timeout=60).status_code for key in keys
            ]

        front.start()
        try:
            pid = front.pid
            assert answers() == [403, 401]
            front.update(replace(rules, keys=KeyTable(former.declared, former.path)))
            front.look(said.append)
            front.update(replace(rules, keys=newer))
            front.look(said.append)
            front.look(said.append)
            assert answers() == [401, 403]
            assert front.pid == pid
        finally:
            front.close(1.0)
    assert said == ["keys have changed: 1 are taken."]


@pytest.mark.slow
def test_keys_that_cannot_be_written_down_are_told_to_haproxy(tmp_path, monkeypatch):
    """A full disk does not end the run, and no key that was removed is taken."""
    table = KeyTable((), tmp_path / "keys.json")
    key, said = make_key(), list[str]()
    write_keys(table.path, [AccessKey("k", (KeyDigest(digest_of(key)),))])
    with listening() as bound:
        front = Front(tmp_path, [bound], 1, FrontRules(secret="5e"), table)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v2/health/ready"
        front.start()
        try:
            with httpx.Client(headers={"x-api-key": key}, timeout=60) as client:
                front.look(said.append)
                assert client.get(url).status_code == 403
                monkeypatch.setattr(access_table, "write_files", full)
                table.path.unlink()
                front.look(said.append)
                front.look(said.append)
                assert client.get(url).status_code == 401
        finally:
            front.close(1.0)
    (line,) = said
    expect_values(line, "cannot be written", "No space left on device")


def full(*_args):
    """Of a disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
def test_a_page_is_told_that_the_server_ends(tmp_path):
    """A refusal without the headers would be a failure of the network to it."""
    (origin,) = CORS["origins"]
    with listening() as bound:
        front = Front(tmp_path, [bound], 1, FrontRules(cors=CORS))
        front.start()
        try:
            assert front.refuse_new() == 0
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/v2/models/f"
            refused = httpx.post(url, json={}, headers={"origin": origin}, timeout=60)
        finally:
            front.close(1.0)
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert refused.headers["access-control-allow-origin"] == origin


@pytest.mark.slow
def test_it_is_bounded(tmp_path):
    """In connections, as the files that it may open allow, and in what it holds of a request."""
    with listening() as bound:
        front = Front(tmp_path, [bound], 1, FrontRules())
        front.start()
        try:
            info = admin_socket.send_command(tmp_path / "s", "show info")
        finally:
            front.close(1.0)
    lines = [line.split() for line in (tmp_path / "haproxy.cfg").read_text().splitlines()]
    (connections,) = (int(words[1]) for words in lines if words[:1] == ["maxconn"])
    assert 16 <= connections <= CONNECTIONS
    assert f"\nMaxconn: {connections}\n" in (info or "")
    assert ["tune.bufsize", str(BUFFER_BYTES)] in lines
