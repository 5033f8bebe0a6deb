"""Answers that are files, on every way to a function that there is in one process."""

from __future__ import annotations

import base64
import gc
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from runtime.http.transport import file_sender
from tests import file_stages
from tests.file_stages import PNG, content
from wakeful.testing import CallError, ServedFunctions, serve

MB = 1 << 20
LARGE = 5 * MB + 7

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The functions of ``file_stages``."""
    file = tmp_path_factory.mktemp("files") / "serve_config.yaml"
    tight = {
        "name": "tight",
        "route_prefix": "/v2/models/tight",
        "args": {
            "graph": file_stages.GRAPHS["temporary"],
            "limits": {"max_body_bytes": 1000, "max_ongoing_bytes": 2000},
        },
    }
    file.write_text(json.dumps({"applications": [*file_stages.declared(), tight]}))
    with serve(file) as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path):
    """Of temporary files, in which none may be left."""
    made = tmp_path / "temporary"
    made.mkdir()
    yield made
    assert wait_until(lambda: not list(made.iterdir())), list(made.iterdir())


def wait_until(is_so: Any, seconds: float = 10.0) -> bool:
    """Whether it becomes so."""
    until = time.monotonic() + seconds
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(is_so())


def post(app: ServedFunctions, name: str, body: Any, **headers: str) -> httpx.Response:
    """A call, with httpx's own ``accept: */*``."""
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return app.http.post(f"/v2/models/{name}", json=body, headers=sent)


@pytest.mark.parametrize("size", [0, 1, MB, MB + 1, LARGE])
def test_bytes_as_they_are(app: ServedFunctions, size: int):
    """Short and long, on a new connection and on one that was used."""
    for _ in range(2):
        answer = post(app, "picture", {"size": size})
        assert answer.status_code == 200
        assert answer.content == (content(size) if size else PNG)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["vary"] == "accept"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-disposition" not in answer.headers
        assert "total;dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize("size", [0, 1, 1 << 19, (1 << 19) + 1, LARGE])
def test_a_temporary_file(app: ServedFunctions, folder: Path, size: int):
    """Is sent, with its name, and is gone."""
    for _ in range(2):
        answer = post(app, "temporary", {"folder": str(folder), "size": size})
        assert answer.content == content(size)
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.headers["content-length"] == str(size)
        assert answer.headers["content-disposition"] == (
            "inline; filename=\"my _tune_ _.wav\"; filename*=UTF-8''my%20%22tune%22%20%C3%A9.wav"
        )
        assert not list(folder.iterdir())


def test_a_file_that_is_not_in_memory(app: ServedFunctions, folder: Path, monkeypatch):
    """Is read in a thread before it is sent."""
    monkeypatch.setattr(file_sender, "is_cached", lambda *_: False)
    answer = post(app, "temporary", {"folder": str(folder), "size": LARGE})
    assert answer.content == content(LARGE)


def test_a_file_that_stays(app: ServedFunctions, tmp_path: Path):
    """By its path, with the parameters of its type."""
    path = tmp_path / "report.csv"
    path.write_bytes(b"a,b\n1,2\n")
    for _ in range(2):
        answer = post(app, "report", {"path": str(path)})
        assert answer.text == "a,b\n1,2\n"
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    gone = post(app, "report", {"path": str(tmp_path / "gone")})
    assert (gone.status_code, gone.json()["code"]) == (500, "function_failed")


def test_json_where_that_is_accepted(app: ServedFunctions, folder: Path):
    """Base64 text by the value's name, from memory and from disk; a line with its end."""
    for name, body, key, expected in (
        ("picture", {}, "png", PNG),
        ("picture", {"size": LARGE}, "png", content(LARGE)),
        ("temporary", {"folder": str(folder), "size": 1000}, "wav", content(1000)),
        ("temporary", {"folder": str(folder), "size": LARGE}, "wav", content(LARGE)),
    ):
        answer = post(app, name, body, accept="application/json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["vary"] == "accept"
        assert answer.json() == {key: base64.b64encode(expected).decode()}
        line = post(app, name, body, accept="application/x-ndjson")
        assert line.headers["content-type"] == "application/x-ndjson"
        assert line.content == answer.content + b"\n"


def test_rows_are_json(app: ServedFunctions, folder: Path):
    """A row whose file is none fails alone."""
    encoded = base64.b64encode(content(9)).decode()
    rows = [{"size": 9}, {"size": -1}]
    good, bad = post(app, "picture", rows).json()
    assert (good, bad["status"]) == ({"png": encoded}, 400)
    assert post(app, "pictures", [{"size": 9}] * 2).json() == [{"png": encoded}] * 2
    row = {"folder": str(folder), "size": 9}
    good, bad = post(app, "temporary", [row, {**row, "folder": "/nowhere"}]).json()
    assert (good, bad["status"]) == ({"wav": encoded}, 500)
    lines = post(app, "temporary", [row, row], accept="application/x-ndjson").text
    assert [json.loads(line) for line in lines.splitlines()] == [{"wav": encoded}] * 2


def test_errors_are_json(app: ServedFunctions, folder: Path):
    """Whatever is accepted."""
    refused = post(app, "picture", {"size": -1}, accept="image/png")
    assert (refused.status_code, refused.json()["where"]) == (400, "size")
    refused = post(app, "failing", {"folder": str(folder)}, accept="audio/*")
    assert (refused.status_code, refused.json()["code"]) == (500, "function_failed")
    assert "image/png" in refused.json()["error"]


def test_a_part_of_a_file(app: ServedFunctions, folder: Path):
    """From memory and from disk alike; what is no range gets the whole."""
    whole = content(LARGE)
    for name, body in (
        ("picture", {"size": LARGE}),
        ("temporary", {"folder": str(folder), "size": LARGE}),
    ):
        for value, start, stop in (
            ("bytes=0-0", 0, 1),
            ("bytes=1000000-4999999", 1000000, 5000000),
            ("bytes=-9", LARGE - 9, LARGE),
            (f"bytes={LARGE - 1}-", LARGE - 1, LARGE),
        ):
            part = post(app, name, body, range=value)
            assert part.status_code == 206
            assert part.content == whole[start:stop]
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{LARGE}"
            assert part.headers["content-length"] == str(stop - start)
        none = post(app, name, body, range=f"bytes={LARGE}-")
        assert (none.status_code, none.json()["code"]) == (416, "range_not_satisfiable")
        assert none.headers["content-range"] == f"bytes */{LARGE}"
        for more in ({"range": "bytes=0-0,2-3"}, {"range": "bytes=0-0", "if_range": '"x"'}):
            answer = post(app, name, body, **more)
            assert (answer.status_code, len(answer.content)) == (200, LARGE)
    assert post(app, "picture", {}, range="bytes=0-0", accept="application/json").json()["png"]


def test_tensors(app: ServedFunctions, folder: Path):
    """A BYTES tensor, in binary; in JSON where they are UTF-8, as for all bytes."""
    assert app.picture.infer(size=np.array([9, 3]))["png"].tolist() == [content(9), content(3)]
    found = app.temporary.infer(folder=np.array([str(folder)], object), size=np.array([9]))
    assert found["wav"].tolist() == [content(9)]
    path = folder / "it"
    path.write_text("ä,b")
    inputs = [{"name": "path", "datatype": "BYTES", "shape": [1], "data": [str(path)]}]
    answer = post(app, "report/infer", {"inputs": inputs}).json()["outputs"]
    assert answer == [{"name": "csv", "datatype": "BYTES", "shape": [1], "data": ["ä,b"]}]
    path.unlink()
    inputs = [{"name": "size", "datatype": "INT64", "shape": [1], "data": [9]}]
    assert post(app, "picture/infer", {"inputs": inputs}).status_code == 400


def test_several_values_are_json(app: ServedFunctions, tmp_path: Path):
    """Each file in base64, whatever is accepted."""
    path = tmp_path / "x"
    path.write_bytes(b"x")
    answer = post(app, "several", {"path": str(path)}, accept="image/png")
    expected = {"picture": base64.b64encode(PNG).decode(), "report": "eA==", "count": 1}
    assert answer.json() == expected
    assert app.several(path=str(path)) == expected


def test_a_type_that_the_stage_says(app: ServedFunctions):
    """Of any, JSON among them; one that is none is the function's fault."""
    assert post(app, "anything", {"kind": "text/x"}).headers["content-type"] == "text/x"
    assert post(app, "anything", {"kind": "application/json"}, accept="application/json").text == (
        "text"
    )
    assert post(app, "anything", {"kind": "a/b"}, accept="x/y").json() == {"it": "dGV4dA=="}
    wrong = post(app, "anything", {"kind": "a/b\r\nset-cookie: x=1"})
    assert wrong.status_code == 500


def test_a_function_that_calls_one(app: ServedFunctions, tmp_path: Path):
    """Answers the same file, of the same type; a stage behind it is given bytes."""
    answer = post(app, "passed_on", {"size": 9})
    assert (answer.content, answer.headers["content-type"]) == (content(9), "image/png")
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert app.measured(path=str(path)) == {"size": 5}


def test_a_test_gets_bytes(app: ServedFunctions, folder: Path):
    """`wakeful.testing` knows which functions answer files."""
    assert app.picture() == PNG
    assert app.picture.media_type == "image/png"
    assert app.temporary(folder=str(folder), size=3) == content(3)
    assert app.picture.rows([{"size": 3}]) == [{"png": base64.b64encode(content(3)).decode()}]
    with pytest.raises(CallError) as refused:
        app.picture(size=-1)
    assert refused.value.where == "size"


def test_a_file_has_bounds(app: ServedFunctions, folder: Path):
    """What is on disk has ``limits.max_body_bytes`` at most, in every form."""
    row = {"folder": str(folder), "size": 1001}
    for accept in ("audio/wav", "application/json"):
        answer = post(app, "tight", row, accept=accept)
        assert answer.status_code == 500
        assert "1001" in answer.json()["error"]
        assert post(app, "tight", {**row, "size": 1000}, accept=accept).status_code == 200
    [large] = post(app, "tight", [row]).json()
    assert large["status"] == 500
    rows = [{**row, "size": 1000}] * 4
    seen = {one.get("status", 200) for one in post(app, "tight", rows).json()}
    assert seen == {200, 429}


def raw_call(app: ServedFunctions, name: str, body: Any) -> socket.socket:
    """A call whose answer is not read."""
    text = json.dumps(body).encode()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", app.http.base_url.port))
    head = f"POST /v2/models/{name} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(text) + text)
    return client


def descriptors_of(folder: Path) -> int:
    """Files below a folder that this process has open, which serves."""
    found = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(folder))  # noqa: PTH115
        except OSError:
            continue
    return found


@pytest.mark.parametrize("wait_s", [0.0, 0.5])
def test_a_client_that_leaves(app: ServedFunctions, folder: Path, wait_s: float):
    """Before its answer, or in the middle of it: nothing of it stays."""
    row = {"folder": str(folder), "size": LARGE, "wait_s": wait_s}
    clients = [raw_call(app, "temporary", row) for _ in range(4)]
    if not wait_s:
        for client in clients:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert descriptors_of(folder) == 4
    for client in clients:
        client.close()

    def is_gone() -> bool:
        # a call that was cancelled may be in a circle with its error, which holds its values; a
        # collection keeps the interpreter from the stage, and is not made all the time
        time.sleep(0.2)
        gc.collect()
        return descriptors_of(folder) == 0 and not list(folder.iterdir())

    assert wait_until(is_gone, 60.0)
    assert post(app, "temporary", {**row, "wait_s": 0}).content == content(LARGE)


def test_a_file_that_becomes_shorter_is_cut(app: ServedFunctions, tmp_path: Path):
    """Its length is said: the client sees that it is not whole."""
    path = tmp_path / "x"
    path.write_bytes(bytes(40 * MB))
    client = raw_call(app, "report", {"path": str(path)})
    read = len(client.recv(1000))
    os.truncate(path, MB)
    client.settimeout(20)
    while piece := client.recv(MB):
        read += len(piece)
    client.close()
    assert read < 40 * MB
    assert wait_until(lambda: descriptors_of(tmp_path) == 0)


def test_openapi_has_the_file_first(app: ServedFunctions):
    """Beside JSON, in which it is text."""
    paths = app.http.get("/openapi.json").json()["paths"]
    for name, media in (
        ("picture", "image/png"),
        ("temporary", "audio/*"),
        ("report", "text/csv"),
        ("anything", "application/octet-stream"),
    ):
        answer = paths[f"/v2/models/{name}"]["post"]["responses"]["200"]
        assert list(answer["content"])[:2] == [media, "application/json"]
        assert answer["content"][media]["schema"] == {"type": "string", "format": "binary"}
    answer = paths["/v2/models/several"]["post"]["responses"]["200"]
    assert "application/json" in next(iter(answer["content"]))
    outputs = app.http.get("/v2/models/picture").json()["outputs"]
    assert outputs[0]["parameters"] == {"media_type": "image/png"}
