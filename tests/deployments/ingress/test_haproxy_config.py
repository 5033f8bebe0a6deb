"""HAProxy as we configure it: on the configuration that Ray really writes, and with the real
program.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from deployments.ingress.config_edit import EDITED, ConfigEdit, edit_config
from deployments.ingress.haproxy_config import (
    EDITS,
    FUNCTION,
    HEADER,
    HOST,
    LOCAL,
    ONCE,
    UNLOGGED,
    binary,
    edit,
    hide_split_stages,
    local_edits,
    public,
    split_stage_prefixes,
    with_replay,
    with_secret,
)
from deployments.ingress.haproxy_rules import ARRIVED, CROWDED, DRAINING, FRESH, OWN, REPLAY
from deployments.ray_support.environment import SERVING, to_mapping
from deployments.ray_support.ports import is_free
from runtime.http import function_routes
from tests.backends import Backend
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

BUFFER_BYTES = int(to_mapping(SERVING)["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"])


class Replica(Backend):
    """Answers with what it got; at `/f/die` the first one to be called closes the connection
    instead, at `/f/half` in mid answer. `/f/up` says that something else has failed."""

    requests: list[tuple[str, str]] = []  # noqa: RUF012 - emptied by the fixture
    heads: list[list[tuple[str, str]]] = []  # noqa: RUF012
    given_up = threading.Event()

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """A call; at `/f/refused` one that is answered by its head."""
        if self.path != "/f/refused":
            super().do_POST()
            return
        self.close_connection = True
        self.send_response(413)
        self.send_header("content-length", "0")
        self.end_headers()

    def answer(self, body: bytes) -> None:
        self.requests.append((self.headers[ARRIVED], body.decode()))
        if self.path == "/f/heads":
            self.heads.append(self.headers.items())
        if self.path == "/f/large":
            self.send_large()
            return
        if self.path == "/f/slow":
            self.send_in_two(b"sl", b"ow")
            return
        if self.path == "/f/late":
            time.sleep(2)
            self.say(b"late")
            return
        if self.path == "/f/die" and len(self.requests) == 1:
            self.close_connection = True
            return
        if self.path == "/f/half":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            self.close_connection = True
            return
        if self.path in ("/f/busy", "/f/up"):
            self.send_response(429 if self.path == "/f/busy" else 502)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.say(body)

    def send_in_two(self, first: bytes, second: bytes) -> None:
        """With a pause between them, as a stream."""
        self.send_response(200)
        self.send_header("content-length", str(len(first + second)))
        self.end_headers()
        self.wfile.write(first)
        time.sleep(2)
        self.wfile.write(second)

    def send_large(self) -> None:
        """More than the kernel keeps for a client that does not read."""
        self.send_response(200)
        self.send_header("content-length", str(64 << 20))
        self.end_headers()
        try:
            self.wfile.write(bytes(64 << 20))
        except OSError:
            self.given_up.set()
            self.close_connection = True


def free() -> int:
    """A port that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def written(
    folder: Path,
    port: int,
    servers: list[ServerConfig],
    deployment: str = FUNCTION,
    *,
    host: str = "127.0.0.1",
    backends: bool = True,
) -> str:
    """What Ray writes for two applications: one with these servers of a deployment, one whose
    server does not listen; or before it knows of any.
    """
    servers = [
        ServerConfig(f"SERVE_REPLICA_f-{deployment}-{one.name}", one.host, one.port)
        for one in servers
    ]
    cfg = HAProxyConfig(
        socket_path=str(folder / "s"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        http_options=HTTPOptions(host=host, port=port),
        stats_port=free(),
        metrics_port=free(),
        retry_on=to_mapping(SERVING)["RAY_SERVE_HAPROXY_RETRY_ON"],
        retries=3,
        bufsize=BUFFER_BYTES,
        health_check_inter="500ms",
    )
    known = {
        "f": BackendConfig(name="http-f", app_name="f", path_prefix="/f", servers=servers),
        "g": BackendConfig(
            name="http-g",
            app_name="g",
            path_prefix="/g",
            servers=[ServerConfig("none", "127.0.0.1", free())],
        ),
    }
    HAProxyApi(
        cfg, known if backends else {}, config_file_path=str(folder / "haproxy.cfg")
    )._generate_config_file_internal()
    return (folder / "haproxy.cfg").read_text()


def ours(text: str) -> str:
    """As our program starts HAProxy on it."""
    return edit_config(
        with_replay(text, lambda prefix: False, pytest.fail), (*EDITS, *LOCAL), pytest.fail
    )


@pytest.fixture
def proxy(tmp_path) -> Iterator[str]:
    """HAProxy, edited, before two replicas; its URL."""
    with before_two(tmp_path, FUNCTION) as url:
        yield url


@contextmanager
def before_two(
    tmp_path: Path,
    deployment: str = FUNCTION,
    crowded: int = CROWDED,
    client_timeout: str = "3600s",
) -> Iterator[str]:
    """HAProxy, edited, before two replicas of a deployment; its URL. It is crowded with more than
    so many connections, and gives a client up after so long.
    """
    Replica.requests.clear()
    Replica.given_up.clear()
    replicas = [ThreadingHTTPServer(("127.0.0.1", 0), Replica) for _ in range(2)]
    for replica in replicas:
        threading.Thread(target=replica.serve_forever, args=(0.05,), daemon=True).start()
    port = free()
    text = written(
        tmp_path,
        port,
        [
            ServerConfig(f"r{n}", "127.0.0.1", replica.server_port)
            for n, replica in enumerate(replicas)
        ],
        deployment,
    )
    (tmp_path / "haproxy.cfg").write_text(
        ours(text)
        .replace(f"fe_conn gt {CROWDED}", f"fe_conn gt {crowded}")
        .replace("timeout client 3600s", f"timeout client {client_timeout}")
    )
    child = subprocess.Popen(
        [binary(), "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.PIPE
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 10
        while True:
            assert time.monotonic() < until, child.stderr and child.stderr.read1()
            try:
                if httpx.post(f"{url}/f", content=b"", timeout=60).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.02)
        Replica.requests.clear()
        yield url
    finally:
        child.kill()
        child.communicate()
        for replica in replicas:
            replica.shutdown()
            replica.server_close()


def test_a_configuration_is_edited_once(tmp_path):
    """Ray starts HAProxy again for each change, on a file that it writes again or not."""
    text = written(tmp_path, 8000, [])
    once = ours(text)
    assert once != text
    assert ours(once) == once
    assert "bind *:" not in once
    assert "errorfile" not in once
    assert "mode 600" in once


def test_a_name_with_a_word_of_ours_is_edited_like_any_other(tmp_path):
    """What was edited is known by its first line, not by what a prefix may contain."""
    text = written(tmp_path, 8000, []).replace("/f", f"/{ARRIVED}")
    assert "mode 600" in edit_config(text, (*EDITS, *LOCAL), pytest.fail)


def test_what_closes_haproxy_holds_though_another_edit_is_refused(tmp_path):
    """It is tried by itself, and what is lost is reported."""
    path = tmp_path / "haproxy.cfg"
    text = written(tmp_path, 8000, [])
    wrong = ConfigEdit(r"(?m)^    option redispatch 1$", "    option nonsense", "")
    path.write_text(text)
    (reported,) = edit(path, binary(), [*EDITS, wrong], LOCAL)
    assert "HAProxy refuses its configuration as we edit it" in reported
    assert "nonsense" in reported
    assert "mode 600 level admin" in path.read_text()
    assert "bind 127.0.0.1:" in path.read_text().partition("frontend prometheus")[2]
    path.write_text(text)
    assert len(edit(path, binary(), EDITS, [wrong])) == 2
    assert path.read_text() == text
    assert edit(path, binary(), EDITS, LOCAL) == []


@pytest.mark.parametrize(
    ("host", "binds"),
    [
        ("0.0.0.0", ["0.0.0.0:8123"]),
        ("10.0.0.5", ["127.0.0.1:8123", "10.0.0.5:8123"]),
        ("box.local", ["127.0.0.1:8123", "box.local:8123"]),
    ],
)
def test_haproxy_alone_listens_at_the_public_address(tmp_path, host, binds):
    """What is behind it listens on the loopback address, and so does it, for calls of functions by
    functions.
    """
    text = edit_config(written(tmp_path, 8123, []), (*EDITS, *LOCAL, public(host)), pytest.fail)
    assert re.findall(r"(?m)^    bind (\S+:8123)$", text) == binds


def test_another_address_is_listened_to(proxy, tmp_path):
    """The real program takes the edit."""
    text = (tmp_path / "haproxy.cfg").read_text()
    port = int(proxy.rpartition(":")[2])
    other = tmp_path / "other.cfg"
    other.write_text(
        text.replace(f":{port}\n", f":{free()}\n")
        .replace(f"{tmp_path}/s ", f"{tmp_path}/o ")
        .removeprefix(EDITED)
    )
    assert edit(other, binary(), [], [public("0.0.0.0")]) == []
    assert "    bind 0.0.0.0:" in other.read_text()


@pytest.mark.parametrize(
    ("path", "status"),
    [("/%66", 200), ("/f/%69nfer", 200), ("/%66%2Fx", 404), ("/%2566", 404), ("/f%zz", 404)],
)
def test_an_encoded_path_goes_where_the_plain_one_goes(proxy, path, status):
    """HAProxy compares and passes on letters, whatever they came as."""
    host, port = proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(
            (
                f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            ).encode()
        )
        answer = b"".join(iter(lambda: caller.recv(4096), b""))
    assert answer.split(b" ")[1] == str(status).encode()


def test_no_request_is_logged_to_a_port_that_ray_chose(tmp_path):
    """A target of the user's own stays."""
    text = written(tmp_path, 8123, [])
    assert re.search(r"^    log 127", text, re.M)
    assert not re.search(r"^    log 127", edit_config(text, (UNLOGGED,), pytest.fail), re.M)
    own = text.replace("log 127.0.0.1:514", "log /dev/log")
    assert edit_config(own, (UNLOGGED,), lambda message: None) == own


def test_parts_are_not_there_for_calls_without_the_secret(proxy, tmp_path):
    """Also by an encoded path; a name that begins alike is another function's."""
    port, behind = free(), servers_of((tmp_path / "haproxy.cfg").read_text())
    deployed = [{"route_prefix": "/f", "part_of": "g"}, {"route_prefix": "/g", "part_of": ""}]
    (tmp_path / "up.json").write_text(json.dumps({"deployed": deployed}))
    hidden = hide_split_stages(split_stage_prefixes(tmp_path), "c0ffee")
    text = edit_config(
        written(tmp_path, port, [ServerConfig("r0", "127.0.0.1", behind[0])]),
        (hidden, *EDITS),
        pytest.fail,
    )
    path = tmp_path / "parts.cfg"
    path.write_text(
        text.replace(f"{tmp_path}/s ", f"{tmp_path}/o ").replace(f"{tmp_path}/p ", f"{tmp_path}/q ")
    )
    with subprocess.Popen([binary(), "-db", "-f", str(path)], stderr=subprocess.DEVNULL) as child:
        try:
            wait_until(lambda: not is_free("127.0.0.1", port))
            for requests in ("/f", "/f/infer", "/%66", "/f/%69nfer"):
                url = f"http://127.0.0.1:{port}{requests}"
                refused = httpx.post(
                    url, content=b"", headers={"x-request-id": "mine", HEADER: "c0ffe"}, timeout=60
                )
                assert (refused.status_code, refused.json()) == (
                    404,
                    function_routes.not_found_error().body("mine"),
                )
                assert (
                    httpx.post(url, content=b"", headers={HEADER: "c0ffee"}, timeout=60).status_code
                    == 200
                )
            assert (
                httpx.post(f"http://127.0.0.1:{port}/g", content=b"", timeout=60).status_code == 503
            )
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("header", "is_kept"),
    [
        (b"x-request-id: mine ~!", True),
        (b"x-request-id: caf\xe9", False),
        (b"x-request-id: caf\xc3\xa9", False),
        (b"X-Request-Id: fine\r\nx-request-id: a\tb\x80", False),
        (b"x-session-id: caf\xe9", False),
        (b"X_Session-ID: caf\xe9", False),
        (b"x-session-id: caf", True),
        (b"serve_multiplexed_model_id: \xff", False),
        (b"Serve-Multiplexed_Model-Id: \xff", False),
        (b"serve-multiplexed-model-id: m1", True),
        (b"x-multiplexed: \xff\r\nx-session: \xff", True),
        (b"x-tenant: caf\xe9", True),
    ],
)
def test_serve_gets_no_id_that_it_cannot_decode(proxy, header, is_kept):
    """It would answer 500 for a request that is none of its business; other headers are a stage's,
    whatever they hold.
    """
    other = b"x-name: caf\xe9"
    answer = raw(proxy, b"POST /f/heads HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n" + other + END)
    assert answer.startswith(b"HTTP/1.1 200")
    got = [name.lower().encode() for name, _ in Replica.heads[-1]]
    asked = [line.partition(b":")[0].lower() for line in header.split(b"\r\n")]
    assert [name for name in got if name in asked] == (asked if is_kept else [])
    assert b"x-name" in got


END = b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def raw(url: str, request: bytes) -> bytes:
    """The answer, byte by byte."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as caller:
        caller.sendall(request)
        return b"".join(iter(lambda: caller.recv(4096), b""))


def test_a_haproxy_without_routes_is_not_ready_and_says_no_function_is_gone(tmp_path):
    """As Ray starts it: routes come within a second. With the first of them a path without an
    application is 404 again.
    """
    port = free()
    assert "status 503" not in ours(written(tmp_path, port, [])).partition("backend default_")[2]
    text = ours(written(tmp_path, port, [], backends=False))
    (tmp_path / "haproxy.cfg").write_text(text)
    with subprocess.Popen(
        [binary(), "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.DEVNULL
    ) as child:
        try:
            wait_until(lambda: not is_free("127.0.0.1", port))
            answer = httpx.get(f"http://127.0.0.1:{port}/f", headers={"x-request-id": "mine"})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json() == {
                "error": "HAProxy has just started and is told what there is within a second; "
                "call again.",
                "code": "unavailable",
                "where": "",
                "request_id": "mine",
            }
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("host", "is_ours", "closed"),
    [
        ("127.0.0.1", False, True),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, False),
        ("10.0.0.5", False, False),
        ("0.0.0.0", True, True),
    ],
)
def test_statistics_are_for_this_machine_where_http_is(tmp_path, host, is_ours, closed):
    """On a cluster that was started by hand for others, they are as Ray has them: what reads the
    metrics may be another machine.
    """
    text = written(tmp_path, 8123, [], host=host)
    edited = edit_config(text, local_edits(text, is_ours=is_ours), pytest.fail)
    assert "mode 600" in edited
    for name in ("frontend prometheus", "listen stats"):
        bind = re.search(r"bind (\S*):\d+$", edited.partition(f"{name}\n")[2], re.M)
        assert bind is not None
        assert (bind[1] == "127.0.0.1") is closed


def test_an_answer_that_nobody_takes_is_given_up_and_one_that_comes_late_is_not(tmp_path):
    """Silence of the function counts for nothing: the timeout is of a client that has something to
    take.
    """
    path = tmp_path / "haproxy.cfg"
    with before_two(tmp_path, client_timeout="1s") as url:
        assert "timeout client 1s" in path.read_text()
        late = raw(url, b"POST /f/late HTTP/1.1\r\nhost: x" + END)
        assert late.endswith(b"\r\n\r\nlate")
        assert raw(url, b"POST /f/slow HTTP/1.1\r\nhost: x" + END).endswith(b"\r\n\r\nslow")
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as caller:
            caller.sendall(b"POST /f/large HTTP/1.1\r\nhost: x" + END)
            assert Replica.given_up.wait(30)


def test_a_client_that_closes_its_side_is_told_so(proxy):
    """It counts as one that leaves: a client that is gone looks the same."""
    host, port = proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as caller:
        caller.sendall(b"POST /f HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
        caller.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: caller.recv(4096), b""))
    assert not answer or b"which counts as leaving" in answer


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"deployed": [1]}'])
def test_without_a_word_on_them_no_parts_are_known(tmp_path, text):
    """They refuse calls themselves."""
    if text is not None:
        (tmp_path / "up.json").write_text(text)
    assert split_stage_prefixes(tmp_path) == []


def servers_of(text: str) -> list[int]:
    """Ports of the replicas behind a proxy."""
    return [int(port) for port in re.findall(r"(?m)^    server \S*\br\d+ 127\.0\.0\.1:(\d+)", text)]


def test_calls_of_functions_are_known_by_the_secret():
    """In what is let through while everything else is refused; without a token by their content
    type.
    """
    assert with_secret(EDITS, "") == EDITS
    puts = " ".join(edit.put for edit in with_secret(EDITS, "c0ffee"))
    assert f"!{{ req.hdr({HEADER}) -m str c0ffee }}" in puts
    assert "vnd.wakeful" not in puts
    assert function_routes.SECRET_HEADER.decode() == HEADER


def test_a_lost_machine_is_found_by_its_connections(tmp_path):
    """The line of a server of another machine says how long what was sent may go unheard; HAProxy
    ignores it in `default-server`. One of this machine is not lost when it does not read for a
    while: it may be loading a model."""
    far = {"10.0.0.2", "fd00::2", "[fd00::2]", "10.127.0.1"}
    near = {"127.0.0.1", "localhost", "::1", "[::1]"}
    servers = [ServerConfig(f"r{n}", host, 1) for n, host in enumerate(sorted(far | near))]
    text = edit_config(written(tmp_path, 8000, servers), (*EDITS, *LOCAL), pytest.fail)
    lines = [
        line.split() for line in text.splitlines() if line.startswith("    server SERVE_REPLICA_f")
    ]
    assert {
        line[2].removesuffix(":1") for line in lines if line[3:6] == ["tcp-ut", "3s", "check"]
    } == far
    assert {line[2].removesuffix(":1") for line in lines if line[3] == "check"} == near
    assert "option srvtcpka" in text


def test_another_configuration_is_left_as_it_is():
    """Of another Ray, say; the log names each promise that this costs."""
    complaints: list[str] = []
    assert edit_config("global\n", (*EDITS, *LOCAL), complaints.append) == "global\n"
    needed = [edit for edit in (*EDITS, *LOCAL) if edit.most]
    assert [
        edit.promise in reported for edit, reported in zip(needed, complaints, strict=True)
    ] == [True] * len(needed)


@pytest.mark.parametrize("size", [5, 64 * 1024])
def test_a_call_whose_replica_died_is_sent_to_the_other(proxy, size):
    """Whole, and as old as it is: the time of its arrival is that of the first attempt, whatever
    the caller claims.
    """
    body = "x" * size
    answer = httpx.post(f"{proxy}/f/die", content=body, headers={ARRIVED: "0-0-0"}, timeout=60)
    assert (answer.status_code, answer.text) == (200, body)
    (first, first_body), (second, second_body) = Replica.requests
    assert (first, first_body) == (second, second_body)
    assert abs(int(first.split("-")[0]) / 1e6 - time.time()) < 60


@pytest.mark.parametrize("deployment", [ONCE, "Shop"])
def test_a_call_is_not_sent_again_where_the_function_declines_it_or_is_not_ours(
    tmp_path, deployment
):
    """It may have been computed: 503, and the other replica gets nothing of it."""
    with before_two(tmp_path, deployment) as url:
        lost = httpx.post(f"{url}/f/die", content=b"x", timeout=60)
        assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
        assert len(Replica.requests) == 1


@pytest.mark.parametrize("count", [1, 4])
def test_a_call_that_is_not_sent_again_is_answered_on_a_connection_that_is_kept(tmp_path, count):
    """However many were answered on it before: HAProxy would close it without a word."""
    with before_two(tmp_path, ONCE) as url, httpx.Client(timeout=60) as client:
        for _ in range(count):
            assert client.post(f"{url}/f", content=b"x").status_code == 200
        Replica.requests.clear()
        lost = client.post(f"{url}/f/die", content=b"x")
        assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
        assert "it may have been computed" in lost.json()["error"]
        assert len(Replica.requests) == 1
        assert client.post(f"{url}/f", content=b"x").status_code == 200


@pytest.mark.parametrize(
    ("deployments", "hung", "replays"),
    [
        ([FUNCTION, FUNCTION], False, True),
        ([HOST], False, True),
        ([ONCE], True, False),
        ([FUNCTION, ONCE], True, False),
        (["Function"], True, False),
        ([], True, True),
        ([], False, False),
    ],
)
def test_replayed_calls_are_known_by_the_servers_and_without_servers_by_the_wake_signal(
    tmp_path, deployments, hung, replays
):
    """Of that application alone."""
    text = written(tmp_path, 8000, [])
    servers = "".join(
        f"    server SERVE_REPLICA_f-{one}-a{n} 127.0.0.1:{n} check\n"
        for n, one in enumerate(deployments)
    )
    text = text.replace(
        "backend http-g",
        f"{servers}    server SERVE_PROXY_ACTOR-1 127.0.0.1:8500 check backup\nbackend http-g",
    )
    after = with_replay(text, lambda prefix: hung and prefix == "/f", pytest.fail)
    assert after.count(f"    retry-on {REPLAY}\n") == replays
    assert after.count(FRESH) == (ONCE in deployments)
    assert replays == (
        REPLAY in after.partition("\nbackend http-f\n")[2].partition("\nbackend http-g\n")[0]
    )


def test_a_body_beyond_the_buffer_cannot_be_sent_again(proxy):
    """HAProxy has passed its beginning on and forgotten it: the error says that the replica
    died, and when to call again.
    """
    lost = httpx.post(f"{proxy}/f/die", content=b"x" * 200_000, timeout=60)
    assert (lost.status_code, lost.headers["retry-after"], lost.json()["code"]) == (
        503,
        "1",
        "unavailable",
    )


def test_a_body_beyond_the_buffer_has_no_answer_on_a_connection_that_is_kept(proxy):
    """What docs/errors.md says: HAProxy closes the client's connection, for it to call again."""
    with httpx.Client(timeout=60) as client:
        for _ in range(4):
            assert client.post(f"{proxy}/f", content=b"x").status_code == 200
        Replica.requests.clear()
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(f"{proxy}/f/die", content=b"x" * 200_000)


@pytest.mark.parametrize(("declared", "status"), [(BUFFER_BYTES + 1, b"413"), (9, b"")])
def test_a_body_that_says_it_is_longer_than_the_buffer_is_not_waited_for(proxy, declared, status):
    """A function refuses it by its head, before the client has sent it. A shorter one is not begun
    before it is whole.
    """
    port = int(proxy.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
        head = f"POST /f/refused HTTP/1.1\r\nhost: t\r\ncontent-length: {declared}\r\n\r\n"
        client.sendall(head.encode())
        if status:
            assert client.recv(1000).split()[1] == status
        else:
            with pytest.raises(TimeoutError):
                client.recv(1000)
            client.sendall(bytes(declared))
            assert client.recv(1000).split()[1] == b"413"


def test_an_upstream_that_failed_is_no_lost_replica(proxy):
    """A function's own 502 is passed on as it is, and HAProxy's is 503 without a trace of why."""
    lost = httpx.post(f"{proxy}/f/die", content=b"x" * 200_000, timeout=60)
    failed = httpx.post(f"{proxy}/f/up", content=b"", timeout=60)
    assert [failed.status_code, lost.status_code] == [502, 503]
    assert OWN not in lost.headers
    assert len(Replica.requests) == 2


def test_an_answer_that_has_begun_cannot_be_taken_back(proxy):
    """Its replica died in the middle of it; the caller sees that it is not whole."""
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{proxy}/f/half", content=b"", timeout=60)


@pytest.mark.parametrize("identity", ["mine", 'a"\\b'])
def test_haproxys_own_answers_have_the_error_form(proxy, identity):
    """No replica: 503 with Retry-After; no such path: 404. Both with the caller's request id."""
    headers = {"x-request-id": identity}
    gone = httpx.post(f"{proxy}/g", content=b"", headers=headers, timeout=60)
    assert (gone.status_code, gone.headers["retry-after"], gone.json()["code"]) == (
        503,
        "1",
        "unavailable",
    )
    unknown = httpx.get(f"{proxy}/h", headers=headers, timeout=60)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert gone.json()["request_id"] == unknown.json()["request_id"] == identity


@pytest.mark.parametrize("crowded", [0, 1])
def test_a_client_refused_while_it_is_crowded_loses_its_connection(tmp_path, crowded):
    """There are so many in all, and others wait for one: callers of a function that refuses them
    must not have them all.
    """
    with before_two(tmp_path, crowded=crowded) as url, httpx.Client(timeout=60) as client:
        answers = [client.post(f"{url}{path}", content=b"") for path in ("/f", "/f/busy")]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert [answer.headers.get("connection") for answer in answers] == [
            None,
            None if crowded else "close",
        ]


def test_it_takes_nothing_new_once_it_drains(proxy, tmp_path):
    """Through its socket, as `down` does: 503 in the error form and the connection closed, while it
    says that it lives.
    """
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(tmp_path / "s"))
        admin.sendall(f"experimental-mode on; set var {DRAINING} bool(true)\n".encode())
        admin.recv(4096)
    refused = httpx.post(f"{proxy}/f", content=b"", headers={"x-request-id": "mine"}, timeout=60)
    assert (refused.status_code, refused.headers["retry-after"], refused.headers["connection"]) == (
        503,
        "1",
        "close",
    )
    assert (refused.json()["code"], refused.json()["request_id"]) == ("draining", "mine")
    assert httpx.get(f"{proxy}/v2/health/live", timeout=60).json()["code"] == "not_found"
