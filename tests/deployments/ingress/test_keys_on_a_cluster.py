"""A cluster asks for keys, and takes others while it runs."""

from __future__ import annotations

import http.client
from contextlib import ExitStack, closing

import httpx
import psutil
import pytest

from deployments.ingress import admin_socket
from deployments.ray_support import processes
from runtime.declaration.access.key_file import write_keys
from tests.deployments.ingress.haproxy.proxies import is_listening
from tests.deployments.ingress.keyed import Keys
from tests.deployments.projects import HOST, Standing, function, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]

AUTH = 'http: {auth: {file: "asked.json"}}\n'


def test_keys_change_while_a_cluster_runs(standing: Standing):
    """Without an `up` and without a restart, also in a HAProxy that is started anew. What a key does not
    open does not wake, and is as if it were not there, also by a slash that came encoded. With the key of the file keys are gone again.
    """
    functions = [function("hosted", least=0), function("owned", least=0, more="tier: own")]
    file, keys = standing.folder / "asked.json", Keys()
    look = keys.add("look", scopes=frozenset({"look"}))
    write_keys(file, keys.known)
    with standing.served(*HOST, *functions, AUTH) as client:

        def call(key: str, name: str) -> httpx.Response:
            return client.post(f"/v2/models/{name}", json={"name": "x"}, headers={"x-api-key": key})

        def state(name: str) -> str:
            page = client.get(f"/functions/{name}", headers={"x-api-key": look})
            return str(page.json()["state"])

        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2").status_code == 401
        assert client.get("/v2", headers={"x-api-key": look}).status_code == 200
        assert standing.state("hosted")["state"] == "asleep"

        key = keys.add("one", functions=frozenset({"hosted"}))
        assert call(key, "hosted").status_code == 401
        write_keys(file, keys.known)
        wait_until(lambda: call(key, "hosted").status_code == 200)
        absent = call(key, "nowhere")
        assert (absent.status_code, absent.json()["code"]) == (404, "not_found")
        hidden = call(key, "owned")
        assert (hidden.status_code, hidden.json()["error"]) == (404, absent.json()["error"])
        wait_until(lambda: state("hosted") == "ready")
        for path in ("/v2%2Fmodels/owned", "/v1%2Fembeddings", "/-%2Froutes"):
            answer = client.post(path, json={"model": "owned"}, headers={"x-api-key": look})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert state("owned") == "asleep"

        (socket,) = standing.home.path.glob("hap/*/s")
        pid = admin_socket.process_id(socket)
        psutil.Process(pid).kill()
        wait_until(lambda: admin_socket.process_id(socket) not in (None, pid))
        wait_until(lambda: answers(lambda: call(key, "hosted")) == 200)
        assert call("wk_other", "hosted").status_code == 401

        keys.known.pop()
        write_keys(file, keys.known)
        wait_until(lambda: call(key, "hosted").status_code == 401)
    with standing.served(*HOST, *functions) as client:
        wait_until(lambda: client.get("/v2").status_code == 200)
        assert client.post("/v2/models/owned", json={"name": "x"}).status_code == 200


def test_a_connection_from_before_keys_needs_one(standing: Standing):
    """HAProxy is started anew for them, and the process that the client is connected to was replaced."""
    functions = [*HOST, function("hosted", least=0)]
    file, keys = standing.folder / "asked.json", Keys()
    look = keys.add("look", scopes=frozenset({"look"}))
    write_keys(file, keys.known)

    def status(client: http.client.HTTPConnection, key: str) -> int:
        client.request("GET", "/v2", headers={"x-api-key": key} if key else {})
        answer = client.getresponse()
        answer.read()
        return answer.status

    def connect() -> http.client.HTTPConnection:
        """One that is kept, and not opened again."""
        client = http.client.HTTPConnection(httpx.URL(standing.url).netloc.decode(), timeout=60)
        wait_until(lambda: status(client, "") == 200 and client.sock is not None)
        client.auto_open = 0
        return client

    with ExitStack() as stack:
        with standing.served(*functions):
            clients = [stack.enter_context(closing(connect())) for _ in range(3)]
        with standing.served(*functions, AUTH) as newer:
            wait_until(lambda: newer.get("/v2").status_code == 401)
            (socket,) = standing.home.path.glob("hap/*/s")
            newest = admin_socket.process_id(socket)
            proxies = processes.by_name(standing.home.path, "haproxy")
            wait_until(lambda: [one.pid for one in proxies if is_listening(one.pid)] == [newest])
            sent = ("", "wk_other", look)
            found = [status(*one) for one in zip(clients, sent, strict=True)]
        assert found == [401, 401, 200]
    with standing.served(*functions) as client:
        wait_until(lambda: client.get("/v2").status_code == 200)


def answers(call) -> int:
    """The status of a call; 0 where nothing listens."""
    try:
        status: int = call().status_code
    except httpx.HTTPError:
        return 0
    return status
