"""The program that Ray starts instead of HAProxy, and each promise that it makes: the real HAProxy on
what Ray really writes.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from ray.serve._private.haproxy import ServerConfig

from deployments.ingress import admin_socket
from deployments.ingress.edge import wants_guard
from deployments.ingress.haproxy import rendering
from deployments.ingress.haproxy.lacks import CLOSED, PROMISES, Lacks
from deployments.ingress.haproxy.protection import protect
from deployments.ingress.haproxy.rules import ARRIVED, DRAINING, EDGE, LOST_S, SECRET
from deployments.ingress.haproxy.syntax import parse
from deployments.ingress.haproxy.terms import Deployed
from deployments.ingress.haproxy_config import WRITTEN, binary, configure
from deployments.ingress.tls.files import TlsFiles
from deployments.ray_support.environment import LOOPBACK, MARK
from deployments.ray_support.haproxy_names import LACKS, METRICS, STATISTICS
from deployments.ray_support.secret_store import edge_secret
from deployments.rollout.catalogue_client import served_prefixes
from runtime.http import function_routes
from tests.deployments.ingress.haproxy.proxies import (
    OURS,
    Replica,
    at,
    before_two,
    free,
    ours,
    replicas,
    started,
    written,
)
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow


def never(prefix: str) -> bool:
    """No call waits for a prefix."""
    return False


def test_a_configuration_is_written_once(tmp_path):
    """Ray starts HAProxy again for each change, on a file that it writes again or not."""
    path = tmp_path / "haproxy.cfg"
    text = written(tmp_path, 8000, [])
    assert configure(path, binary(), OURS, never) == Lacks()
    once = path.read_text()
    assert once == WRITTEN + ours(text)
    assert configure(path, binary(), OURS, never) is None
    assert path.read_text() == once


@pytest.mark.parametrize("is_known", [True, False])
def test_a_configuration_is_for_this_user_alone(tmp_path, is_known):
    """The secrets by which processes know each other are in it, and Ray's folder may be open to all.
    What another user has put in its place is not written to.
    """
    path, others = tmp_path / "haproxy.cfg", tmp_path / "others"
    text = written(tmp_path, 8000, [])
    path.write_text(text if is_known else text.replace("listen stats", "listen pages"))
    path.chmod(0o644)
    others.touch(0o666)
    path.with_suffix(".ours").symlink_to(others)
    deployed = replace(OURS, secret="c0ffee", machine="10.0.0.4")
    configure(path, binary(), deployed, never)
    assert edge_secret("c0ffee") in path.read_text()
    assert stat.S_IMODE(path.stat(follow_symlinks=False).st_mode) == 0o600
    assert path.is_symlink() is False
    assert others.read_text() == ""


def test_a_name_with_a_word_of_ours_is_read_like_any_other(tmp_path):
    """What was written is known by its first line, not by what a prefix may contain."""
    path = tmp_path / "haproxy.cfg"
    path.write_text(written(tmp_path, 8000, []).replace("/f", f"/{ARRIVED}"))
    assert configure(path, binary(), OURS, never) == Lacks()
    assert "mode 600" in path.read_text()


@pytest.mark.parametrize("again", [False, True])
def test_a_file_that_is_not_known_has_closed_ports(tmp_path, again):
    """With the version of Ray and what is missing; also where HAProxy starts on the file again."""
    path = tmp_path / "haproxy.cfg"
    path.write_text(written(tmp_path, 8000, []).replace("listen stats", "listen pages"))
    lacks = configure(path, binary(), Deployed(is_ours=True, host="10.0.0.5"), never)
    assert lacks is not None
    assert lacks.reason.startswith("This Wakeful does not know what Ray 2.")
    assert lacks.reason.endswith("writes for HAProxy: no section `listen stats`.")
    assert set(lacks.off()) == set(PROMISES)
    if again:
        assert configure(path, binary(), OURS, never) is None
    text = path.read_text()
    assert "mode 600 level admin" in text
    assert "errorfile 503" in text
    for section in parse(text):
        hosts = [words[1] for words in section.words() if words[0] == "bind"]
        if section.head == "frontend http_frontend":
            assert hosts == ["127.0.0.1:8000", "10.0.0.5:8000"]
        assert all(host.startswith(("127.0.0.1:", "10.0.0.5:")) for host in hosts)


def test_what_closes_haproxy_holds_though_our_configuration_is_refused(tmp_path, monkeypatch):
    """It is tried by itself, then Ray's own is taken; what is lost is reported."""
    path = tmp_path / "haproxy.cfg"
    text = written(tmp_path, 8000, [])
    path.write_text(text.replace("balance leastconn", "balance leastconn\n    option nonsense"))
    open_to_all = configure(path, binary(), OURS, never)
    assert open_to_all is not None
    assert set(open_to_all.off()) == {*PROMISES, CLOSED}
    assert open_to_all.reason.count("nonsense") >= 2
    assert "mode 666" in path.read_text()
    assert not path.read_text().startswith(WRITTEN)

    path.write_text(text)
    real = rendering.render_serve
    monkeypatch.setattr(
        "deployments.ingress.haproxy_config.render_serve",
        lambda *arguments: real(*arguments).replace("option redispatch 1", "option nonsense"),
    )
    closed = configure(path, binary(), OURS, never)
    assert closed is not None
    assert closed.reason.startswith("HAProxy refuses our configuration: ")
    assert "nonsense" in closed.reason
    assert set(closed.off()) == set(PROMISES)
    assert "mode 600 level admin" in path.read_text()


def test_http_begins_where_a_template_fails(tmp_path, monkeypatch):
    """A package that is gone, a full disk: that costs promises, and not HTTP."""
    path = tmp_path / "haproxy.cfg"
    written(tmp_path, 8000, [])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    lacks = configure(path, binary(), OURS, never)
    assert lacks is not None
    assert "jinja2" in lacks.reason
    assert "mode 600 level admin" in path.read_text()


def test_the_program_starts_without_what_the_engine_needs():
    """It runs at each reload, before HAProxy does: pydantic alone would be half of its start."""
    code = "import sys, deployments.ingress.haproxy_config; print({*sys.argv[1:]} & {*sys.modules})"
    command = [sys.executable, "-c", code, "ray", "pydantic", "numpy", "orjson", "httpx"]
    assert subprocess.check_output(command, text=True).strip() == "set()"


@pytest.mark.parametrize(("known", "promises"), [(True, 0), (False, len(PROMISES))])
def test_the_program_says_what_it_lacks_and_becomes_haproxy(tmp_path, known, promises):
    """In HAProxy's own log, and where `status` and `/metrics` look."""
    text = written(tmp_path, free(), [])
    path = tmp_path / "haproxy.cfg"
    path.write_text(text if known else text.replace("listen stats", "listen pages"))
    (tmp_path / LACKS).write_text("of an earlier one\nerrors: x.")
    done = subprocess.run(
        [Path(sys.executable).with_name("wakeful-haproxy"), "-c", "-V", "-f", path],
        env={**os.environ, MARK: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "Configuration file is valid" in done.stdout
    lacks = tmp_path / LACKS
    assert lacks.exists() is not known
    assert known or len(lacks.read_text().splitlines()) == 1 + promises
    reported = [line for line in done.stderr.splitlines() if line.partition(":")[0] in PROMISES]
    assert len(reported) == promises
    assert path.read_text().startswith(WRITTEN)


# The promises, each against a HAProxy that runs.

HELD_BY = {
    "errors": "test_haproxys_own_answers_have_the_error_form",
    "age": "test_a_call_whose_replica_died_is_sent_to_the_other",
    "connect": "test_a_connection_is_given_up_soon",
    "drain": "test_it_takes_nothing_new_once_it_drains",
    "lost_machine": "test_a_connection_that_is_silent_is_asked_whether_it_lives",
    "sequences": "test_the_calls_of_a_sequence_reach_one_replica",
    "body": "test_a_body_that_says_it_is_longer_than_the_buffer_is_not_waited_for",
    "replay": "test_a_call_whose_replica_died_is_sent_to_the_other",
    "cors": "test_it_says_what_one_process_says",
    "log": "test_a_request_is_logged_only_where_the_user_says",
    "paths": "test_an_encoded_path_goes_where_the_plain_one_goes",
    "own_names": "test_what_a_client_sends_under_names_of_ours_goes",
    "keys": "test_a_call_is_answered_by_its_key",
    "addresses": "test_further_connections_of_an_address_are_closed",
    "hidden_stages": "test_parts_are_not_there_for_calls_without_the_secret",
    CLOSED: "test_its_socket_and_its_pages_are_for_this_user_and_machine",
}


def test_each_promise_is_held_by_a_test():
    """Here and in the modules beside this one, against a HAProxy that runs."""
    assert set(HELD_BY) == {*PROMISES, CLOSED}
    beside = Path(__file__).parent.glob("test_haproxy_*.py")
    tests = "".join(path.read_text() for path in beside)
    assert [name for name in HELD_BY.values() if f"\ndef {name}(" not in tests] == []


@pytest.mark.parametrize(
    ("secret", "machine", "is_told"),
    [("", "", False), ("c0ffee", "", False), ("c0ffee", "10.0.0.4", True)],
)
def test_a_request_carries_the_secret_of_the_edge(tmp_path, secret, machine, is_told):
    """Where processes ask for it, in the place of what the client sent, also a call of a function;
    by it they know that it came this way. Elsewhere nothing is added, and nothing from outside
    stays.
    """
    deployed = Deployed(is_ours=True, secret=secret, machine=machine)
    with before_two(tmp_path, deployed=deployed) as proxy:
        Replica.forget()
        of_function = {SECRET: secret, EDGE: "forged"} if is_told else {}
        for headers in ({}, {EDGE: "forged"}, of_function):
            httpx.post(f"{proxy.url}/f/heads", headers=headers, timeout=60).raise_for_status()
        seen = [[value for name, value in head if name.lower() == EDGE] for head in Replica.heads]
        assert seen == [[edge_secret(secret)] if is_told else []] * 3


def test_the_secret_of_the_edge_is_added_where_processes_ask_for_it():
    """Of the same folder (``edge.wants_guard``)."""
    for asks_for_keys, machine, clients in (
        (False, LOOPBACK, None),
        (True, LOOPBACK, None),
        (False, "10.0.0.4", None),
        (False, LOOPBACK, Path("/a")),
    ):
        files = TlsFiles(Path("/c"), Path("/k"), clients)
        up = {"kind": "own", "node_ip": machine, "auth": {} if not asks_for_keys else {"a": 1}}
        up["tls"] = files.to_json()
        deployed = Deployed(
            secret="c0ffee",
            asks_for_keys=asks_for_keys,
            machine="" if machine == LOOPBACK else machine,
            tls=files,
        )
        assert bool(deployed.edge) == wants_guard(up)


def test_it_says_itself_which_promises_it_keeps(tmp_path):
    """By its socket: all of them; those of closed ports where it runs by Ray's file with closed
    ports; none where by Ray's alone.
    """
    (known, port), folder = (written(tmp_path, one := free(), []), one), tmp_path
    unknown = known.replace("listen stats", "listen pages")
    for text, kept in (
        (ours(known), {*PROMISES, CLOSED}),
        (protect(unknown, is_ours=True), {CLOSED}),
        (known, set()),
    ):
        with started(folder, text, port):
            assert admin_socket.read_kept(folder / "s") == kept
    assert admin_socket.read_kept(folder / "s") is None


@contextmanager
def deaf() -> Iterator[int]:
    """The port of a server that takes no connection: those that wait for it are too many."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting: list[socket.socket] = []
        try:
            while len(waiting) < 64:
                caller = socket.socket()
                waiting.append(caller)
                caller.settimeout(0.2)
                try:
                    caller.connect(address)
                except TimeoutError:
                    break
            else:
                pytest.fail("this system takes connections that nothing accepts")
            yield address[1]
        finally:
            for caller in waiting:
                caller.close()


def test_a_connection_is_given_up_soon(tmp_path):
    """And tried again: 4 of Ray's 5 s would be more than the client has."""
    with deaf() as port:
        http = free()
        text = written(tmp_path, http, at([port]), timeout_connect_s=10)
        with started(tmp_path, ours(text), http) as proxy:
            proxy.tell("disable health http-f/SERVE_REPLICA_f-WakefulFunction-r0")
            answer = httpx.post(f"{proxy.url}/f", content=b"", timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def keepalive_timers(port: int) -> list[int]:
    """Of each connection to a port of this machine, in hundredths of a second, as Linux says it
    (proc(5): ``/proc/net/tcp``, the timer 02); -1 for a connection that has none.
    """
    timers = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, _, timer, *_ = line.split()
        if state == "01" and int(remote.rpartition(":")[2], 16) == port:
            kind, _, left = timer.partition(":")
            timers.append(int(left, 16) if kind == "02" else -1)
    return timers


def test_a_connection_that_is_silent_is_asked_whether_it_lives(tmp_path):
    """After a second of silence, by the kernel: so a lost machine is found while a call waits there.
    By default it would be asked after two hours.
    """
    with before_two(tmp_path) as proxy, httpx.Client(timeout=60) as client:
        assert client.post(f"{proxy.url}/f", content=b"").status_code == 200

        def is_watched() -> bool:
            timers = [one for port in proxy.ports for one in keepalive_timers(port)]
            return any(0 <= one <= 100 * LOST_S for one in timers)

        wait_until(is_watched)  # while data is on its way, another timer runs
        # no file of the kernel's shows how often it is asked after that
        assert f"srvtcpka-intvl {LOST_S}s" in (tmp_path / "haproxy.cfg").read_text()
        assert "srvtcpka-cnt 2" in (tmp_path / "haproxy.cfg").read_text()


def test_data_on_its_way_to_a_lost_machine_is_given_up(tmp_path):
    """The line of a server of another machine says how long what was sent may go unheard; HAProxy
    ignores it in `default-server`. One of this machine is not lost when it does not read for a
    while: it may be loading a model.
    """
    far = {"10.0.0.2", "fd00::2", "[fd00::2]", "10.127.0.1"}
    near = {"127.0.0.1", "localhost", "::1", "[::1]"}
    servers = [ServerConfig(f"r{n}", host, 1) for n, host in enumerate(sorted(far | near))]
    text = ours(written(tmp_path, 8000, servers))
    lines = [line.split() for line in text.splitlines() if line.startswith("    server SERVE_R")]
    lines = [line for line in lines if line[1].startswith("SERVE_REPLICA_f-")]
    assert {
        line[2].removesuffix(":1") for line in lines if line[3:6] == ["tcp-ut", "3s", "check"]
    } == far
    assert {line[2].removesuffix(":1") for line in lines if line[3] == "check"} == near


def test_it_takes_nothing_new_once_it_drains(tmp_path):
    """Through its socket, as `down` does: 503 in the error form and the connection closed, while it
    says that it lives, and calls of functions by functions go on.
    """
    with before_two(tmp_path, deployed=Deployed(is_ours=True, secret="c0ffee")) as proxy:
        proxy.tell(f"experimental-mode on; set var {DRAINING} bool(true)")
        refused = httpx.post(
            f"{proxy.url}/f", content=b"", headers={"x-request-id": "mine"}, timeout=60
        )
        lives = httpx.get(f"{proxy.url}/v2/health/live", timeout=60)
        inner, other = (
            httpx.post(f"{proxy.url}/f", content=b"", headers={SECRET: secret}, timeout=60)
            for secret in ("c0ffee", "c0ffe")
        )
    assert (refused.status_code, refused.headers["retry-after"], refused.headers["connection"]) == (
        503,
        "1",
        "close",
    )
    assert (refused.json()["code"], refused.json()["request_id"]) == ("draining", "mine")
    assert lives.json()["code"] == "not_found"
    assert [inner.status_code, other.status_code] == [200, 503]


@pytest.mark.parametrize("logs", [False, True])
def test_a_request_is_logged_only_where_the_user_says(tmp_path, logs):
    """Ray's default is a port at which nothing listens, or something else does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        host, port = target.getsockname()
        deployed = Deployed(is_ours=True, logs=logs)
        with before_two(tmp_path, deployed=deployed, log_target=f"{host}:{port}") as proxy:
            for _ in range(2):  # the second answer is after the first one's line
                assert httpx.post(f"{proxy.url}/f", content=b"", timeout=60).status_code == 200
            target.settimeout(30 if logs else 0)
            if logs:
                while b"POST /f" not in target.recv(4096):
                    pass
            else:
                with pytest.raises(BlockingIOError):
                    target.recv(4096)


def test_its_socket_and_its_pages_are_for_this_user_and_machine(tmp_path):
    """They tell of applications and servers, and the socket commands."""
    with before_two(tmp_path) as proxy:
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        listening = {
            bytes.fromhex(local.partition(":")[0])[::-1] for local in listeners_of(proxy.pid)
        }
        assert listening == {bytes([127, 0, 0, 1])}
        sections = parse((tmp_path / "haproxy.cfg").read_text())
        exporter, pages = (
            one.lines[0].removeprefix("bind ")
            for one in sections
            if one.name in (METRICS, STATISTICS)
        )
        assert "haproxy_frontend_" in httpx.get(f"http://{exporter}/metrics", timeout=60).text
        assert "Statistics Report" in httpx.get(f"http://{pages}/stats", timeout=60).text


def listeners_of(pid: int) -> list[str]:
    """The addresses at which a process listens, as ``/proc/net/tcp`` writes them."""
    held = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a health check that has just ended
            held.add(str(one.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in held]


def test_parts_are_not_there_for_calls_without_the_secret(tmp_path):
    """Also by an encoded path; a name that begins alike is another function's."""
    deployed = Deployed(is_ours=True, secret="c0ffee", hidden=("/f",))
    with replicas(1) as ports:
        http = free()
        text = ours(written(tmp_path, http, at(ports)), deployed)
        with started(tmp_path, text, http) as proxy:
            for path in ("/f", "/f/infer", "/%66", "/f/%69nfer"):
                url = f"{proxy.url}{path}"
                headers = {"x-request-id": "mine", SECRET: "c0ffe"}
                refused = httpx.post(url, content=b"", headers=headers, timeout=60)
                assert (refused.status_code, refused.json()) == (
                    404,
                    function_routes.not_found_error().body("mine"),
                )
                inner = httpx.post(url, content=b"", headers={SECRET: "c0ffee"}, timeout=60)
                assert inner.status_code == 200
            assert httpx.post(f"{proxy.url}/g", content=b"", timeout=60).status_code == 503


@pytest.mark.parametrize("secret", ["c0ffee", ""])
def test_what_a_client_sends_under_names_of_ours_goes(tmp_path, secret):
    """A call of a function keeps it; where its secret is not known here, the two names stay by which
    processes judge themselves.
    """
    names = ["x-wakeful-passed", "X-Wakeful-Sequence", "x-wakeful-key", "x-wakeful-edge"]
    names += ["x-wakeful-functions", "x-wakeful-timeout-seconds", "x-wakeful-internals"]
    both = {"x-wakeful-function": "g", SECRET: "c0ffe"}
    sent = {**dict.fromkeys(names, "mine"), **both, "forwarded": "for=me", "x-own": "1"}
    deployed = Deployed(is_ours=True, secret=secret, machine="10.0.0.4")
    with before_two(tmp_path, deployed=deployed) as proxy:

        def reached(**more: str) -> dict[str, str]:
            Replica.forget()
            httpx.post(f"{proxy.url}/f/heads", content=b"", headers={**sent, **more}, timeout=60)
            (head,) = Replica.heads
            found = {name.lower(): value for name, value in head}
            assert found.pop(ARRIVED) != "mine"
            assert found.pop("x-own") == "1"
            assert "forwarded" not in found
            edge = edge_secret(secret) if secret else None
            assert found.pop("x-wakeful-edge", None) == edge
            return {name: value for name, value in found.items() if "wakeful" in name}

        assert reached() == ({} if secret else both)
        if secret:
            kept = {name.lower(): "mine" for name in names if name != "x-wakeful-edge"}
            assert reached(**{SECRET: secret}) == {**kept, **both, SECRET: secret}


@pytest.mark.parametrize("is_known", [True, False])
def test_where_keys_are_on_nothing_is_open_that_asks_for_none(tmp_path, is_known, monkeypatch):
    """HAProxy gets Ray's file closed, but for what says that it lives; where it takes not even that, the
    program ends.
    """
    port, path = free(), tmp_path / "haproxy.cfg"
    text = written(tmp_path, port, [])
    keyed = Deployed(is_ours=True, secret="c0ffee", asks_for_keys=True)
    if not is_known:
        later = free()
        text += f"frontend later\n    mode tcp\n    bind 127.0.0.1:{later}\n"
        text = text.replace("listen stats", "listen pages")
    path.write_text(text)
    if is_known:
        assert configure(path, binary(), keyed, never) == Lacks()
        assert (tmp_path / "keys.map").read_text() == ""
        return
    lacks = configure(path, binary(), keyed, never)
    assert lacks is not None
    assert lacks.reason
    assert not lacks.is_open
    with started(tmp_path, path.read_text(), port) as proxy:
        for headers in ({}, {SECRET: "c0ffee"}, {"x-api-key": "wk_x"}):
            for target in ("/f", "/-/routes", "/", "/v2/health/live/"):
                answer = httpx.get(f"{proxy.url}{target}", headers=headers, timeout=60)
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        lives = httpx.get(f"{proxy.url}/v2/health/live", timeout=60)
        assert lives.status_code == 404  # Ray's own, of no application
        with (
            suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", later), timeout=30) as caller,
        ):
            caller.sendall(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            assert caller.recv(1) == b""

    path.write_text(text.replace("balance leastconn", "balance leastconn\n    option nonsense"))
    (tmp_path / "up.json").write_text('{"auth": {"file": "keys.json", "keys": []}, "deployed": []}')
    done = subprocess.run(
        [Path(sys.executable).with_name("wakeful-haproxy"), "-c", "-f", path],
        env={**os.environ, MARK: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Nothing is served: keys are on" in done.stderr


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ('{"auth": {"file": "k", "keys": []}}', True),
        ('{"auth": null}', False),
        ("{}", False),
        ("[]", True),
        ("{", True),
        (None, True),
    ],
)
def test_keys_are_asked_for_where_it_is_not_known(tmp_path, text, asks):
    """A file of `up` that is gone, or damaged, opens nothing."""
    if text is not None:
        (tmp_path / "up.json").write_text(text)
    assert Deployed.here({MARK: str(tmp_path)}).asks_for_keys is asks
    assert Deployed.here({}).asks_for_keys is False


def test_a_haproxy_without_routes_is_not_ready_and_says_no_function_is_gone(tmp_path):
    """As Ray starts it: routes come within a second. With the first of them a path without an
    application is 404 again.
    """
    port = free()
    text = ours(written(tmp_path, port, [], backends=False))
    with started(tmp_path, text, port) as proxy:
        answer = httpx.get(f"{proxy.url}/f", headers={"x-request-id": "mine"}, timeout=60)
        ready = httpx.get(f"{proxy.url}/-/healthz", timeout=60)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {
        "error": "HAProxy has just started and gets its routes within a second; call again.",
        "code": "unavailable",
        "where": "",
        "request_id": "mine",
    }
    assert ready.status_code == 503


def test_rays_own_pages_are_answered(tmp_path):
    """Health and routes, which load balancers ask for."""
    with before_two(
        tmp_path, has_received_routes=True, has_received_servers=True, is_head=True
    ) as proxy:
        assert httpx.get(f"{proxy.url}/-/healthz", timeout=60).text == "success"
        assert json.loads(httpx.get(f"{proxy.url}/-/routes", timeout=60).text) == {
            "/f": "f",
            "/g": "g",
        }


@pytest.mark.parametrize(
    "configured", [ours, lambda text: protect(text, is_ours=True)], ids=["ours", "unknown"]
)
def test_routes_whose_servers_are_not_known_yet_are_none(tmp_path, configured):
    """`wakeful up` waits for the routes, and its user's first call is to be answered: of a Ray that
    is not known, too.
    """
    port = free()
    known = {"has_received_routes": True, "has_received_servers": True, "is_head": True}
    with started(tmp_path, configured(written(tmp_path, port, [], **known)), port) as proxy:
        answer = httpx.get(f"{proxy.url}/-/routes", timeout=60)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["code"] == "unavailable"
        assert served_prefixes(proxy.url) == frozenset()
    with started(tmp_path, configured(written(tmp_path, port, at([1]), **known)), port) as proxy:
        assert served_prefixes(proxy.url) == {"/f", "/g"}


def test_another_address_is_listened_to(tmp_path):
    """HAProxy alone has it."""
    with before_two(tmp_path, deployed=Deployed(is_ours=True, host="0.0.0.0")) as proxy:
        assert httpx.post(f"{proxy.url}/f", content=b"x", timeout=60).text == "x"
        assert f"00000000:{proxy.port:04X}" in listeners_of(proxy.pid)
