"""`wakeful up` with `http.tls`: what `tests.deployments.local.test_tls` shows of a run, before the
replicas of a cluster, whose HAProxy Ray starts anew at each change.
"""

from __future__ import annotations

import json
import re
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from deployments.ingress.tls.copies import read_state
from deployments.ray_support import processes
from tests.certificates import Issued, authority, client_file, write_files
from tests.deployments.projects import HOST, Project, function, wait_until
from tests.h2_caller import H2Caller

pytestmark = [pytest.mark.ray, pytest.mark.full]

JSON = [("content-type", "application/json")]
BODY = b'{"name": "a"}'

HEAD = "http: {tls: {cert: tls/cert.pem, key: tls/key.pem%s}}\n"

CALLER = """\
  - name: caller
    args: {graph: [{stage: s, function: say}]}
"""

SPLIT = """\
  - name: split
    args:
      graph:
        - {stage: one, python: "stages_of_a_test:say", deployment: {}}
        - {stage: two, python: "stages_of_a_test:shout"}
"""

FUNCTIONS = (
    *HOST,
    function("say", least=0),
    function("own", least=1, more="tier: own"),
    CALLER,
    SPLIT,
)


class TlsProject(Project):
    """A project with TLS."""

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"https://127.0.0.1:{self.port}"

    def declare_tls(self, *functions: str, clients: str = "") -> None:
        """Write the file."""
        self.declare(*functions)
        file = self.folder / "serve_config.yaml"
        file.write_text(HEAD % clients + file.read_text())
        stages = self.folder / "stages_of_a_test.py"
        if "def shout" not in stages.read_text():
            stages.write_text(
                stages.read_text() + "\ndef shout(one: dict[str, str]) -> dict[str, str]:\n"
                "    return {'said': one['said'].upper()}\n"
            )

    def client(self, **trust: Path) -> httpx.Client:
        """One that trusts the authority."""
        return httpx.Client(base_url=self.url, verify=authority().context(**trust), timeout=60)

    def http2(self) -> H2Caller:
        """Another, by HTTP/2."""
        return H2Caller(self.port, authority().context())

    def shows(self, issued: Issued) -> bool:
        """Whether a new client is shown this certificate."""
        shown = ssl.get_server_certificate(("127.0.0.1", self.port))
        return ssl.PEM_cert_to_DER_cert(shown) == issued.der

    def haproxies(self) -> list[psutil.Process]:
        """Those that run."""
        return processes.by_name(self.home.path, "haproxy")


@pytest.fixture
def tls(project: Project) -> TlsProject:
    """With files."""
    write_files(project.folder / "tls", authority().issue("api.example"))
    made = TlsProject(project.folder, project.short, project.port)
    made.more["WAKEFUL_LOGICAL_CPUS_PER_CORE"] = "16"
    return made


@contextmanager
def callers(tls: TlsProject) -> Iterator[list[Exception]]:
    """Of one call after the other meanwhile, each on some connections of its own; what was lost."""
    over, lost = threading.Event(), list[Exception]()

    def call() -> None:
        while not over.is_set():
            try:
                with tls.client() as client:
                    for name in ("own", "caller"):
                        answer = client.post(f"/v2/models/{name}", content=BODY, headers=JSON)
                        assert answer.status_code == 200, answer.text
            except Exception as error:
                lost.append(error)

    def call_by_http2() -> None:
        while not over.is_set():
            try:
                with tls.http2() as caller:
                    for name in ("own", "caller"):
                        status, body = caller.call("POST", f"/v2/models/{name}", BODY, JSON)
                        assert status == 200, body
                        if caller.is_ending:
                            break
            except Exception as error:
                lost.append(error)

    threads = [threading.Thread(target=one) for one in (call, call_by_http2)]
    for thread in threads:
        thread.start()
    try:
        yield lost
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_file_is_served_with_tls_and_renewed(tls: TlsProject) -> None:
    """Functions call functions, commands find it, certificates change under callers, also where Ray
    starts HAProxy anew or it dies, and HTTP is never in the clear.
    """
    tls.declare_tls(*FUNCTIONS)
    outcome = tls.run("up", "--detach")
    assert outcome.returncode == 0, f"{outcome.stderr}\n{tls.proxy_log()}"
    assert f"{tls.url}/v2/models/say" in outcome.stdout
    with tls.client() as client, tls.http2() as caller:
        for name, said in (("say", "a"), ("own", "a"), ("caller", "a"), ("split", "A")):
            answer = client.post(f"/v2/models/{name}", json={"name": "a"})
            assert answer.status_code == 200, f"{name}: {answer.text}"
            assert answer.json()["said"] == said
            status, body = caller.call("POST", f"/v2/models/{name}", BODY, JSON)
            assert (status, json.loads(body)["said"]) == (200, said)
        assert "wakeful_tls_certificate_end_timestamp_seconds" in client.get("/metrics").text
    with pytest.raises(httpx.TransportError):
        httpx.get(tls.url.replace("https", "http"), timeout=30)
    listed = {one["name"]: one for one in json.loads(tls.run("status", "--json").stdout)}
    assert listed["say"]["url"] == f"{tls.url}/v2/models/say"
    assert json.loads(tls.run("call", "say", '{"name": "b"}').stdout)["said"] == "b"
    assert tls.run("sleep", "say").returncode == 0

    with callers(tls) as lost:
        renewed = authority().issue("api.example")
        write_files(tls.folder / "tls", renewed)
        wait_until(lambda: tls.shows(renewed))
        (tls.folder / "tls" / "key.pem").write_bytes(authority().issue().key)
        (folder,) = tls.home.path.glob("hap/*/")
        wait_until(lambda: "not the key" in read_state(folder).refused)
        assert "those before serve on" in tls.run("status").stderr
        before = {one.pid for one in tls.haproxies()}
        tls.declare_tls(*FUNCTIONS, function("more", least=1, more="tier: own"))
        outcome = tls.run("up", "--detach")
        assert outcome.returncode == 2
        assert "not the key" in outcome.stderr
        write_files(tls.folder / "tls", renewed)
        (tls.folder / "tls" / "key.pem").chmod(0o600)
        assert tls.run("up", "--detach").returncode == 0
        wait_until(lambda: bool({one.pid for one in tls.haproxies()} - before))
        assert tls.shows(renewed)
        again = authority().issue("api.example")
        write_files(tls.folder / "tls", again)
        wait_until(lambda: tls.shows(again))
    assert lost == []

    for one in tls.haproxies():
        one.send_signal(signal.SIGKILL)
    wait_until(lambda: tls.run("call", "own", '{"name": "b"}').returncode == 0)
    assert tls.shows(again)

    tls.declare(*FUNCTIONS)
    outcome = tls.run("up", "--detach")
    assert outcome.returncode == 1
    assert "already up with TLS" in outcome.stderr
    assert tls.run("down").returncode == 0
    assert tls.is_clean()


def test_clients_with_certificates_alone(tls: TlsProject) -> None:
    """Functions and commands need none. No other user of the machine gets past HAProxy."""
    issued = authority().issue("api.example")
    write_files(tls.folder / "tls", issued, authority().pem)
    tls.declare_tls(*FUNCTIONS, clients=", client_ca: tls/clients.pem")
    outcome = tls.run("up", "--detach")
    assert outcome.returncode == 0, f"{outcome.stderr}\n{tls.proxy_log()}"
    own = client_file(tls.folder, authority().issue("caller-1"))
    with tls.client(certificate=own) as client:
        assert client.post("/v2/models/caller", json={"name": "a"}).json()["said"] == "a"
    with pytest.raises(httpx.TransportError), tls.client() as client:
        client.post("/v2/models/caller", json={"name": "a"})
    assert json.loads(tls.run("call", "caller", '{"name": "b"}').stdout)["said"] == "b"
    (config,) = tls.home.path.glob("hap/*/haproxy.cfg")
    ports = set(re.findall(r"^ +server \S+ 127\.0\.0\.1:(\d+) ", config.read_text(), re.MULTILINE))
    assert len(ports) > 2
    for port in ports:  # of replicas, the host, the catalogue and Serve's proxy
        past = httpx.post(f"http://127.0.0.1:{port}/v2/models/own", json={"name": "a"}, timeout=60)
        assert (past.status_code, past.json()["code"]) == (403, "not_through_edge"), port
    assert tls.run("down").returncode == 0
    assert tls.is_clean()
