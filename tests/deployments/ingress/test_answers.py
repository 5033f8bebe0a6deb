"""On Ray, behind HAProxy, a function answers as it does in one process."""

from __future__ import annotations

import concurrent.futures
import json
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runtime.declaration.config_file import read
from runtime.graph.description.interface_schemas import describe_interface
from runtime.graph.resolve import resolve
from runtime.http.catalogue.openapi import DescribedFunction, make_document
from runtime.http.catalogue.openapi_parts import REPOSITORY
from runtime.settings import Settings
from tests import basic, clients, serving
from tests.deployments.projects import HOST, Standing

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent.parent.parent


def hosted(functions: str, *names: str) -> str:
    """These of them have no deployment of their own: they wake in the host."""
    return "  - name: ".join(
        one.replace("min_replicas: 1", "min_replicas: 0") if one.split("\n")[0] in names else one
        for one in functions.split("  - name: ")
    )


@pytest.fixture(scope="module")
def url(standing: Standing) -> Iterator[str]:
    """The basic functions, served by `wakeful up`: in replicas of their own and in the host."""
    basic.write(standing.folder)
    with standing.served(*HOST, hosted(basic.FUNCTIONS, "fixed", "sum")):
        yield standing.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    """A keep-alive client."""
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.mark.parametrize("case", basic.CASES, ids=lambda case: case.name)
def test_a_request_gets_its_answer(client: httpx.Client, case: basic.Case):
    """Every case of the table that `wakeful run` answers, twice: the first may take Serve's way,
    the second takes ours.
    """
    case.check(client)
    case.check(client)


def test_openapi_is_what_the_file_says(client: httpx.Client, standing: Standing):
    """The catalogue, which has no code of the functions, describes each as the process does that
    resolves the file.
    """
    settings = Settings.read({"WAKEFUL_ROOT": str(standing.folder)})
    config = resolve(read(standing.folder / "serve_config.yaml"), settings)
    functions = [
        DescribedFunction(spec, describe_interface(config.assemblies[spec.name]))
        for spec in config.functions
        if not spec.deployed.part_of
    ]
    assert len(functions) > 2
    document = client.get("/openapi.json").json()
    assert "/functions/{name}" in document["paths"]
    made = make_document(functions, [*document["paths"], REPOSITORY])
    assert document == json.loads(json.dumps(made))


def test_a_v2_client(url: str):
    """tritonclient against HAProxy and the replicas."""
    clients.triton(url)


def test_many_callers_each_get_their_own(client: httpx.Client):
    """Sixteen callers with different numbers at the same time; no caller gets another's."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda n: client.post(basic.MEAN, json={"values": [n] * (n % 7 + 1)}).json()[
                    "mean"
                ],
                range(20, 420),
            )
        )
    assert answers == list(range(20, 420))


def test_a_caller_cannot_switch_off_what_protects_others(client: httpx.Client):
    """Headers that would change Serve's deadline or its watch, malformed ones among them, change
    nothing.
    """
    for value in (b"0", b"-1", b"nan", b"inf", b"\xff"):
        response = client.post(
            basic.MEAN, json={"values": [1]}, headers=[(b"x-request-timeout-seconds", value)]
        )
        assert response.status_code == 200, response.text


@pytest.mark.models
@pytest.mark.full
def test_the_lines_of_the_readme_work():
    """Each curl line of the README, pasted, is answered with 200 by `wakeful up`."""
    lines = re.findall(
        r"^\$ (curl .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(lines) >= 5
    with serving.up(ROOT / "serve_config.yaml", root=ROOT) as url:
        for line in lines:
            command = [
                *shlex.split(line.replace("http://127.0.0.1:8000", url)),
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
            assert done.stdout == "200", line


def answers_to(url: str, data: bytes) -> list[tuple[int, bytes]]:
    """Status and the rest of each answer to these bytes, until the server closes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    parts = re.split(rb"HTTP/1\.1 (\d+)", received)[1:]
    return [(int(status), rest) for status, rest in zip(parts[::2], parts[1::2], strict=True)]


BODY = b'{"values": [20]}'
LAST = f"POST {basic.MEAN} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 16\r\n\r\n"
TRAILERS = (
    f"POST {basic.MEAN} HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n10\r\n"
    f"{BODY.decode()}\r\n0\r\ncontent-type: image/png\r\ncontent-encoding: gzip\r\n\r\n"
)
HANDSHAKE = (
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    "first",
    [
        TRAILERS,
        f"GET {basic.MEAN} HTTP/1.1\r\nhost: t\r\n{HANDSHAKE}\r\n",
        f"POST {basic.MEAN} HTTP/1.1\r\nhost: t\r\n{HANDSHAKE}content-length: 16\r\n\r\n"
        + BODY.decode(),
        f"POST {basic.MEAN} HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
        f"content-length: 16\r\n\r\n{BODY.decode()}",
    ],
    ids=["trailers", "a handshake", "a handshake with a body", "an upgrade"],
)
def test_http_is_read_as_by_wakeful_run(client: httpx.Client, url: str, first: str):
    """Trailers are no headers, there are no WebSockets, an upgrade is ignored; on a first request
    and behind another.
    """
    client.post(basic.MEAN, json={"values": [20]})
    for before in ("", LAST.replace("connection: close\r\n", "") + BODY.decode()):
        *_, (status, _), (after, last) = answers_to(
            url, before.encode() + first.encode() + LAST.encode() + BODY
        )
        assert (status, after) == (200, 200)
        assert b'"mean":20' in last.replace(b" ", b"")


def test_a_browser_gets_the_page(client: httpx.Client):
    """From the catalogue, where a program gets the index."""
    page = client.get("/", headers={"accept": "text/html,*/*;q=0.8"}, follow_redirects=True)
    assert page.url.path == "/console"
    assert "text/html" in page.headers["content-type"]
    assert client.get("/").json()["functions"]


def test_an_edited_file_of_an_example_is_another_version(client: httpx.Client, standing: Standing):
    """`up` says so, and prints the line that sends it, which works."""
    (standing.folder / "sample.png").write_bytes(basic.PNG + b"\1")
    again = standing.run("up", "--detach")
    assert again.returncode == 0, again.stderr
    assert "new files" in again.stdout + again.stderr
    assert f"{standing.url}/console" in again.stdout
    (line,) = re.findall(r"^  (curl .*/v2/models/sum .*)$", again.stdout, re.MULTILINE)
    assert shlex.split(line)[-1] == "image=@sample.png"
    done = subprocess.run(
        [*shlex.split(line), "--silent", "--fail-with-body"],
        cwd=standing.folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == {"total": sum(basic.PNG) + 1}
