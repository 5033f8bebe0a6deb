"""`wakeful run` with `http.tls`: HAProxy stands before the one process, and everything of ours goes
on.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time

import httpx
import psutil
import pytest

from tests.certificates import authority, client_file, write_files
from tests.deployments.local.running import shell
from tests.deployments.projects import wait_until
from tests.h2_caller import H2Caller

pytestmark = pytest.mark.slow

STAGES = """\
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict
from wakeful import RequestError, State

def greet(name: str) -> dict[str, str]:
    return {"greeting": f"hello {name}"}

def size(data: bytes) -> dict[str, int]:
    return {"size": len(data), "sum": sum(data[:1000])}

def count(n: int) -> Iterator[int]:
    if n < 0:
        raise RequestError("no.", where="n")
    yield from range(n)

class Total(TypedDict):
    total: float
    seen: float

def follow(x: float, seen: State[float]) -> Total:
    return {"total": (seen or 0.0) + x, "seen": (seen or 0.0) + x}

def hold(s: float) -> dict[str, float]:
    Path("held").touch()
    time.sleep(s)
    return {"s": s}
"""

FILE = """\
http: {tls: {cert: tls/cert.pem, key: tls/key.pem%s}}
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - {name: greet, args: {graph: [{stage: s, python: "of_a_test:greet"}], example: {name: Ada}}}
  - {name: size, args: {graph: [{stage: s, python: "of_a_test:size"}], limits: {max_body_bytes: 8000000}}}
  - {name: count, args: {graph: [{stage: s, python: "of_a_test:count"}]}}
  - {name: follow, args: {graph: [{stage: s, python: "of_a_test:follow"}], sequences: {}}}
  - {name: hold, args: {graph: [{stage: s, python: "of_a_test:hold", threads: 2}], batching: {max_batch_size: 1}, limits: {max_ongoing_requests: 1, max_queued_requests: 1}}}
  - {name: caller, args: {graph: [{stage: s, function: greet}]}}
"""


@contextlib.contextmanager
def project(folder, more=""):
    """Functions of a file with TLS."""
    with shell(folder) as made:
        (folder / "of_a_test.py").write_text(STAGES)
        (folder / "serve_config.yaml").write_text(FILE % more)
        write_files(folder / "tls", authority().issue("api.example"))
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project of the tests that leave the run as it was."""
    with project(tmp_path_factory.mktemp("tls")) as made:
        yield made


@pytest.fixture(scope="module")
def run(made):
    """It serves."""
    with made.serving() as running:
        assert running.url.startswith("https://127.0.0.1:")
        yield running


def client_of(run, *, http2=False, certificate=None):
    """A client that trusts the authority."""
    return httpx.Client(
        base_url=run.url,
        verify=authority().context(certificate=certificate),
        http2=http2,
        timeout=60,
    )


def accepts(run):
    """Whether something listens."""
    with contextlib.suppress(ConnectionError):
        socket.create_connection(("127.0.0.1", int(run.url.rpartition(":")[2])), 30).close()
        return True
    return False


def http2_caller(run):
    """One that waits for its answers."""
    return H2Caller(int(run.url.rpartition(":")[2]), authority().context())


def ports_behind(run):
    """Those of its processes, which other users of the machine reach as well."""
    processes = psutil.Process(run.process.pid).children(recursive=True)
    behind = {one.pid for one in processes if "haproxy" not in one.name()}
    found = psutil.net_connections("tcp")
    ports = {
        one.laddr.port for one in found if one.pid in behind and one.status == psutil.CONN_LISTEN
    }
    assert ports
    return ports


def certificate_of(run):
    """What a new client is shown."""
    import ssl

    host, _, port = run.url.removeprefix("https://").rpartition(":")
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))


BIG = bytes(range(256)) * 8192

JSON = {"content-type": "application/json"}
RAW = {"content-type": "application/octet-stream"}
EVENTS = {**JSON, "accept": "text/event-stream"}
TENSOR = {"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [3]}]}

REQUESTS = [
    ("POST", "/v2/models/greet", JSON, b'{"name": "bo"}'),
    ("POST", "/v2/models/greet", JSON, b'[{"name": "a"}, {"name": 1}]'),
    ("POST", "/v2/models/greet", JSON, b'{"nam": 1}'),
    ("POST", "/v2/models/greet", JSON, b"{"),
    ("POST", "/v2/models/greet", {"content-type": "text/csv"}, b"a"),
    ("POST", "/v2/models/none", JSON, b"{}"),
    ("POST", "/v2/models/caller", JSON, b'{"name": "bo"}'),
    ("POST", "/v2/models/size", RAW, b"abc"),
    ("POST", "/v2/models/size", RAW, BIG),
    ("POST", "/v2/models/size", RAW, BIG * 5),
    ("POST", "/v2/models/count", EVENTS, b'{"n": 5}'),
    ("POST", "/v2/models/count", {**JSON, "accept": "application/x-ndjson"}, b'{"n": 5}'),
    ("POST", "/v2/models/count", EVENTS, b'{"n": -1}'),
    ("POST", "/v2/models/count/infer", JSON, json.dumps(TENSOR).encode()),
    ("GET", "/v2/models/greet", {}, None),
    ("HEAD", "/v2/models/greet", {}, None),
    ("GET", "/v2/models/greet/ready", {}, None),
    ("DELETE", "/v2/models/greet", {}, None),
    ("GET", "/v2/health/live", {}, None),
    ("GET", "/v2", {}, None),
    ("GET", "/openapi.json", {}, None),
    ("GET", "/-/process/", {}, None),
]


@pytest.mark.parametrize(("method", "path", "headers", "body"), REQUESTS, ids=range(len(REQUESTS)))
def test_http2_is_answered_as_http1(run, method, path, headers, body):
    """The same table of requests, of every form."""
    answers = []
    for http2 in (False, True):
        with client_of(run, http2=http2) as client:
            answer = client.request(
                method, path, headers={**headers, "x-request-id": "a"}, content=body
            )
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name not in ("date", "server", "connection", "transfer-encoding", "server-timing")
        }
        content = re.sub(rb"dur=[0-9.]+", b"", answer.content)  # the last event of a stream has it
        answers.append((answer.status_code, kept, content))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("http2", [False, True])
def test_sequences_keep_their_state(run, http2):
    """By one connection or by several."""
    total = 0.0
    with client_of(run, http2=http2) as client:
        for number in range(1, 5):
            headers = {"x-sequence-id": f"s{http2}"}
            headers |= {"x-sequence-start": "1"} if number == 1 else {}
            answer = client.post("/v2/models/follow", json={"x": number}, headers=headers)
            total += number
            assert answer.json()["total"] == total, answer.text


def test_a_busy_function_refuses_by_http2_as_by_http1(run):
    """With `Retry-After`."""
    over, refused = threading.Event(), []
    with client_of(run) as holding, client_of(run, http2=True) as client:

        def hold():
            while not over.is_set():
                holding.post("/v2/models/hold", json={"s": 0.3})

        def is_refused():
            answer = client.post("/v2/models/hold", json={"s": 0})
            if answer.status_code == 429:
                refused.append(answer)
            return refused

        # it takes two at once: one of four is too many, in whichever order they come
        holders = [threading.Thread(target=hold) for _ in range(3)]
        for holder in holders:
            holder.start()
        try:
            wait_until(is_refused)
        finally:
            over.set()
            for holder in holders:
                holder.join()
    (answer,) = refused
    assert answer.http_version == "HTTP/2"
    assert answer.json()["code"] == "overloaded"
    assert answer.headers["retry-after"]


def test_trailers_of_http2_are_no_headers(run):
    """They end a body, and say nothing."""
    trailers = [("x-request-timeout-seconds", "0"), ("x-request-id", "of a trailer")]
    with http2_caller(run) as caller:
        for body in (b'{"name": "bo"}', b'{"name": "%s"}' % (b"o" * 200_000)):
            status, answer = caller.call(
                "POST", "/v2/models/greet", body, list(JSON.items()), trailers
            )
            assert status == 200, answer
            assert b"of a trailer" not in answer


@pytest.mark.full  # test_process_ends shows it by HTTP/1.1
def test_a_call_by_http2_is_answered_while_the_run_ends(tmp_path):
    """The client is told that its connection ends, and has its answer."""
    with project(tmp_path) as made, made.serving() as run:
        with http2_caller(run) as caller:
            answers = []
            body = b'{"s": 2}'
            calling = threading.Thread(
                target=lambda: answers.append(
                    caller.call("POST", "/v2/models/hold", body, list(JSON.items()))
                )
            )
            calling.start()
            wait_until((tmp_path / "held").exists)
            run.process.terminate()
            calling.join()
            assert run.process.wait(60) == 0
        assert [status for status, _ in answers] == [200]


@pytest.mark.full  # test_run shows it of a run in the clear
def test_commands_find_the_run(made, run):
    """Though they know no authority of its certificate."""
    (entry, *_) = json.loads(made.run("status", "--json").stdout)
    assert entry["url"].startswith(run.url)
    assert json.loads(made.run("call", "greet", '{"name": "cy"}').stdout) == {
        "greeting": "hello cy"
    }
    assert made.run("sleep", "greet").returncode == 0
    assert made.run("wake", "greet").returncode == 0
    assert json.loads(made.run("capture", "greet", "--json").stdout)["rate"] == 0


@pytest.mark.full  # test_call shows what is said without TLS
def test_a_server_elsewhere_is_trusted_by_its_authority(made, run, tmp_path):
    """As with curl: an option, or the usual variable; else it is said what is missing."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority().pem)
    call = ("call", "greet", '{"name": "cy"}', "--url", run.url)
    done = made.run(*call)
    assert done.returncode == 1
    assert "--cacert" in done.stderr
    assert "SSL_CERT_FILE" in done.stderr
    assert json.loads(made.run(*call, "--cacert", str(ca)).stdout) == {"greeting": "hello cy"}
    made.more["SSL_CERT_FILE"] = str(ca)
    try:
        assert json.loads(made.run(*call).stdout) == {"greeting": "hello cy"}
    finally:
        del made.more["SSL_CERT_FILE"]
    done = made.run(*call[:-1], run.url.replace("https:", "http:"))
    assert done.returncode == 1
    assert "https://" in done.stderr
    done = made.run(*call, "--cacert", str(made.folder / "of_a_test.py"))
    assert done.returncode == 2


def test_metrics_have_the_end_of_the_certificate(run):
    """And whether the files are served with."""
    with client_of(run) as client:
        page = client.get("/metrics").text
    (end,) = (
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith("wakeful_tls_certificate_end_timestamp_seconds")
    )
    assert time.time() + 80 * 86400 < end < time.time() + 100 * 86400
    assert "wakeful_tls_files_refused" in page


@pytest.mark.full  # services/test_tls.py: on Ray, under callers; ingress/tls/test_copies.py: of HAProxy alone
def test_certificates_that_change_are_taken_without_a_lost_call(tmp_path):
    """As certbot writes them and as Kubernetes does, under callers, which pause so as to leave HAProxy
    a core; wrong ones are refused and told of.
    """
    tls, link = tmp_path / "tls", tmp_path / "link"
    with project(tmp_path) as made, contextlib.ExitStack() as stack:
        tls.rename(tmp_path / "first")
        tls.symlink_to("first")
        run = stack.enter_context(made.serving())
        over, lost, answered = threading.Event(), [], []

        def call(http2):
            while not over.is_set():
                try:
                    with client_of(run, http2=http2) as client:
                        for number in range(10):
                            answer = client.post("/v2/models/greet", json={"name": str(number)})
                            assert answer.status_code == 200, answer.text
                            answered.append(number)
                            over.wait(0.02)
                except Exception as error:
                    lost.append(error)

        assert run.url
        callers = [threading.Thread(target=call, args=(http2,)) for http2 in (False, True)]
        for caller in callers:
            caller.start()
        try:
            issued = authority().issue()
            (tls / "key.pem").write_bytes(issued.key)
            time.sleep(0.3)  # a renewal is not one moment
            (tls / "cert.pem").write_bytes(issued.cert)
            wait_until(lambda: certificate_of(run) == issued.der)
            issued = authority().issue("second")
            write_files(tmp_path / "second", issued)
            link.symlink_to("second")
            link.replace(tls)
            wait_until(lambda: certificate_of(run) == issued.der)
            (tls / "key.pem").write_bytes(authority().issue().key)
            run.wait_for("not the key")
            assert certificate_of(run) == issued.der
            assert "those before serve on" in made.run("status").stderr
            with client_of(run) as client:
                assert "wakeful_tls_files_refused" in client.get("/metrics").text
        finally:
            over.set()
            for caller in callers:
                caller.join()
        assert lost == []
        assert len(answered) > 20


@pytest.mark.full  # test_haproxy_tls shows it of HAProxy alone
def test_clients_with_certificates_alone(tmp_path):
    """Commands of this user's need none; those of others name their own. No other user of the
    machine gets past HAProxy.
    """
    with project(tmp_path, ", client_ca: tls/clients.pem") as made:
        write_files(tmp_path / "tls", authority().issue("api.example"), authority().pem)
        own = client_file(tmp_path, authority().issue("caller"))
        ca = tmp_path / "ca.pem"
        ca.write_bytes(authority().pem)
        made.more["WAKEFUL_ACCESS_LOG"] = "access.log"
        with made.serving("--workers", "2") as run:
            with client_of(run, certificate=own) as client:
                assert client.post("/v2/models/greet", json={"name": "bo"}).status_code == 200
                wait_until(lambda: 'key="caller"' in client.get("/metrics").text)
            wait_until(lambda: '"key":"caller"' in (tmp_path / "access.log").read_text())
            with pytest.raises(httpx.TransportError), client_of(run) as client:
                client.post("/v2/models/greet", json={"name": "bo"})
            for port in ports_behind(run):
                past = f"http://127.0.0.1:{port}/v2/models/greet"
                answer = httpx.post(past, json={"name": "bo"}, timeout=60)
                assert (answer.status_code, answer.json()["code"]) == (403, "not_through_edge")
            assert made.run("call", "greet", '{"name": "cy"}').returncode == 0
            call = ("call", "greet", '{"name": "cy"}', "--url", run.url, "--cacert", str(ca))
            done = made.run(*call)
            assert done.returncode == 1
            assert "--cert" in done.stderr
            assert made.run(*call, "--cert", str(own)).returncode == 0


@pytest.mark.full  # test_files has the table
def test_what_is_wrong_is_refused_before_anything_serves(tmp_path):
    """With the line, by `check` and by `run`; a certificate that has ended is warned of."""
    with project(tmp_path) as made:
        (tmp_path / "tls" / "key.pem").write_bytes(authority().issue().key)
        for command in ("check", "run"):
            done = made.run(command)
            assert done.returncode == 2, done.stderr
            assert (
                "serve_config.yaml:1: http.tls.key: this is not the key"
                in done.stdout + done.stderr
            )
        write_files(tmp_path / "tls", authority().issue(days=-1, begins_in_days=-9))
        done = made.run("check")
        assert done.returncode == 0
        assert "warning" in done.stdout
        assert "ended on" in done.stdout
        with made.serving("--workers", "2") as run:
            assert run.url.startswith("https:")
        assert "ended on" in run.log.read_text()


@pytest.mark.full  # test_reload shows it in the clear
def test_an_edit_is_served_with_tls(tmp_path):
    """`--reload`: HAProxy stays, the version changes behind it, and pages are answered as without
    TLS, by one of the two. Files that are refused meanwhile are no fault of the edit.
    """
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(project(tmp_path))
        file = tmp_path / "serve_config.yaml"
        file.write_text(
            file.read_text().replace("http: {", "http: {cors: {origins: [https://a.b]}, ")
        )
        run = stack.enter_context(made.serving("--reload"))
        client = stack.enter_context(client_of(run))
        wait_until(lambda: accepts(run))
        answer = client.get("/v2/models/greet", headers={"origin": "https://a.b"})
        assert answer.headers["access-control-allow-origin"] == "https://a.b"
        assert answer.headers.get_list("vary") == ["origin"]
        (tmp_path / "tls" / "key.pem").write_bytes(authority().issue().key)
        run.wait_for("not the key")
        assert client.post("/v2/models/greet", json={"name": "a"}).json() == {"greeting": "hello a"}
        (tmp_path / "of_a_test.py").write_text(STAGES.replace("hello", "good day"))
        wait_until(
            lambda: (
                client.post("/v2/models/greet", json={"name": "a"}).json()
                == {"greeting": "good day a"}
            )
        )
