"""HAProxy as we configure it: on the configuration that Ray really writes, and with the real program."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from deployments.haproxy import ARRIVED, DRAINING, EDITS, LOCAL, binary, edited
from deployments.rayenv import SERVING, mapping
from tests.backends import Backend

pytestmark = pytest.mark.slow


class Replica(Backend):
    """Answers with what it got; at `/f/die` the first one to be asked closes the connection instead, at `/f/half` in mid answer."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012 - emptied by the fixture

    def answer(self, body: bytes) -> None:
        self.asked.append((self.headers[ARRIVED], body.decode()))
        if self.path == "/f/die" and len(self.asked) == 1:
            self.close_connection = True
            return
        if self.path == "/f/half":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            self.close_connection = True
            return
        self.say(body)


def free() -> int:
    """A port nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def written(folder: Path, port: int, servers: list[ServerConfig]) -> str:
    """What Ray writes for two applications: one with these servers, one whose server does not listen."""
    cfg = HAProxyConfig(
        socket_path=str(folder / "s"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        stats_port=free(),
        metrics_port=free(),
        retry_on="conn-failure empty-response junk-response",
        retries=3,
        bufsize=int(mapping(SERVING)["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"]),
        health_check_inter="100ms",
    )
    backends = {
        "f": BackendConfig(name="http-f", app_name="f", path_prefix="/f", servers=servers),
        "g": BackendConfig(name="http-g", app_name="g", path_prefix="/g", servers=[ServerConfig("none", "127.0.0.1", free())]),
    }
    HAProxyApi(cfg, backends, config_file_path=str(folder / "haproxy.cfg"))._generate_config_file_internal()
    return (folder / "haproxy.cfg").read_text()


@pytest.fixture
def proxy(tmp_path) -> Iterator[str]:
    """HAProxy, edited, before two replicas; its URL."""
    Replica.asked.clear()
    replicas = [ThreadingHTTPServer(("127.0.0.1", 0), Replica) for _ in range(2)]
    for replica in replicas:
        threading.Thread(target=replica.serve_forever, args=(0.05,), daemon=True).start()
    port = free()
    text = written(tmp_path, port, [ServerConfig(f"r{n}", "127.0.0.1", replica.server_port) for n, replica in enumerate(replicas)])
    (tmp_path / "haproxy.cfg").write_text(edited(text, (*EDITS, *LOCAL), pytest.fail))
    child = subprocess.Popen([binary(), "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 10
        while True:
            assert time.monotonic() < until, child.stderr and child.stderr.read1()
            try:
                if httpx.post(f"{url}/f", content=b"").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.02)
        Replica.asked.clear()
        yield url
    finally:
        child.kill()
        child.communicate()
        for replica in replicas:
            replica.shutdown()
            replica.server_close()


def test_a_configuration_is_edited_once(tmp_path):
    """Ray starts HAProxy again for each change, on a file that it writes anew or not."""
    text = written(tmp_path, 8000, [])
    once = edited(text, (*EDITS, *LOCAL), pytest.fail)
    assert once != text
    assert edited(once, (*EDITS, *LOCAL), pytest.fail) == once
    assert "bind *:" not in once
    assert "errorfile" not in once
    assert "mode 600" in once


def test_a_lost_machine_is_found_by_its_connections(tmp_path):
    """Each server's own line says how long what was sent may go unheard; HAProxy ignores it in `default-server`."""
    text = edited(written(tmp_path, 8000, [ServerConfig("r0", "10.0.0.2", 1)]), (*EDITS, *LOCAL), pytest.fail)
    servers = [line for line in text.splitlines() if line.startswith("    server ") and " check" in line]
    assert len(servers) == 2
    assert all(" tcp-ut 3s check" in line for line in servers)
    assert "option srvtcpka" in text


def test_another_configuration_is_left_as_it_is():
    """Of another Ray, say; the log names each promise that this costs."""
    complaints: list[str] = []
    assert edited("global\n", (*EDITS, *LOCAL), complaints.append) == "global\n"
    needed = [edit for edit in (*EDITS, *LOCAL) if edit.most]
    assert [edit.promise in said for edit, said in zip(needed, complaints, strict=True)] == [True] * len(needed)


@pytest.mark.parametrize("size", [5, 64 * 1024])
def test_a_call_whose_replica_died_is_sent_to_the_other(proxy, size):
    """Whole, and as old as it is: the time of its arrival is that of the first attempt, whatever the caller claims."""
    body = "x" * size
    answer = httpx.post(f"{proxy}/f/die", content=body, headers={ARRIVED: "0-0-0"})
    assert (answer.status_code, answer.text) == (200, body)
    (first, first_body), (second, second_body) = Replica.asked
    assert (first, first_body) == (second, second_body)
    assert abs(int(first.split("-")[0]) / 1e6 - time.time()) < 60


def test_a_body_beyond_the_buffer_cannot_be_sent_again(proxy):
    """HAProxy has passed its beginning on and forgotten it: the caller is told that the replica died, and when to call again."""
    lost = httpx.post(f"{proxy}/f/die", content=b"x" * 200_000)
    assert (lost.status_code, lost.headers["retry-after"], lost.json()["code"]) == (503, "1", "unavailable")


def test_an_answer_that_has_begun_cannot_be_taken_back(proxy):
    """Its replica died in the middle of it; the caller sees that it is not whole."""
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{proxy}/f/half", content=b"")


@pytest.mark.parametrize("identity", ["mine", 'a"\\b'])
def test_haproxys_own_answers_have_the_error_form(proxy, identity):
    """No replica: 503 with Retry-After; no such path: 404. Both with the caller's request id."""
    headers = {"x-request-id": identity}
    gone = httpx.post(f"{proxy}/g", content=b"", headers=headers)
    assert (gone.status_code, gone.headers["retry-after"], gone.json()["code"]) == (503, "1", "unavailable")
    unknown = httpx.get(f"{proxy}/h", headers=headers)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert gone.json()["request_id"] == unknown.json()["request_id"] == identity


def test_it_takes_nothing_new_when_told_so(proxy, tmp_path):
    """Through its socket, as `down` does: 503 in the error form and the connection closed, while it says that it lives."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(tmp_path / "s"))
        admin.sendall(f"experimental-mode on; set var {DRAINING} bool(true)\n".encode())
        admin.recv(4096)
    refused = httpx.post(f"{proxy}/f", content=b"", headers={"x-request-id": "mine"})
    assert (refused.status_code, refused.headers["retry-after"], refused.headers["connection"]) == (503, "1", "close")
    assert (refused.json()["code"], refused.json()["request_id"]) == ("draining", "mine")
    assert httpx.get(f"{proxy}/v2/health/live").json()["code"] == "not_found"
