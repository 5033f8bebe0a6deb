"""Files of web servers: honest ones, and those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.artifacts.remote.download import PartialFile, download
from runtime.artifacts.remote.objects import Interrupted
from runtime.artifacts.remote.web import MAX_REDIRECTS, WebObject
from runtime.errors import StoreError
from tests.runtime.artifacts.remote.servers import (
    Fault,
    Files,
    answer,
    cut_after,
    endless,
    replaced_by,
    serve_files,
)

BODY = bytes(range(256)) * 1000
OTHER = BODY[::-1]


def bring(files: Files, folder: Path, path: str = "m.onnx", **options: object) -> bytes:
    remote = WebObject(f"{files.url}/{path}", "https://host/m.onnx", **options)
    return download(
        remote,
        PartialFile(folder, "m"),
        "https://host/m.onnx",
        limit=1 << 20,
        say=lambda remark: None,
        sleep=lambda wait_s: None,
    ).read_bytes()


def test_a_file_comes(tmp_path: Path) -> None:
    """By one GET, not compressed."""
    with serve_files({"m.onnx": BODY}) as files:
        assert bring(files, tmp_path) == BODY
    assert files.requests == ["GET /m.onnx"]
    assert files.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("faults", "marks", "ranges"),
    [
        ([cut_after(1000)], True, ["", "bytes=999-"]),
        ([cut_after(200_000), cut_after(10)], True, ["", "bytes=199999-", "bytes=200008-"]),
        ([cut_after(1000)], False, ["", ""]),
        ([answer(503), answer(429, {"Retry-After": "3"})], True, ["", "", ""]),
    ],
)
def test_an_interrupted_file_goes_on(
    tmp_path: Path, faults: list[Fault], marks: bool, ranges: list[str]
) -> None:
    """From where it was, if the server says what the file is; else from its beginning."""
    with serve_files({"m.onnx": BODY}) as files:
        files.faults, files.marks = list(faults), marks
        assert bring(files, tmp_path) == BODY
    assert [line.removeprefix("GET /m.onnx").strip() for line in files.requests] == ranges


def test_a_changed_file_is_the_new_one(tmp_path: Path) -> None:
    """No byte of what came before is in it; where the new one is shorter, too."""
    for new in (OTHER, b"short"):
        with serve_files({"m.onnx": BODY}) as files:
            files.faults = [replaced_by(new, 200_000)]
            assert bring(files, tmp_path) == new


def test_a_server_that_ignores_the_condition_is_seen(tmp_path: Path) -> None:
    """It answers the part of another file, with that one's ETag."""
    part = answer(
        206,
        {"Content-Range": f"bytes 999-{len(BODY) - 1}/{len(BODY)}", "ETag": '"another"'},
        OTHER[999:],
    )
    with serve_files({"m.onnx": BODY}) as files:
        files.faults = [cut_after(1000), part]
        assert bring(files, tmp_path) == BODY


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (answer(302, {"Location": "file:///etc/passwd"}), "it leads on to file:"),
        (answer(302, {"Location": "ftp://host/m.onnx"}), "it leads on to ftp:"),
        (answer(302), "it leads on nowhere"),
        (answer(401), "answered 401.*netrc"),
        (answer(403), "answered 403.*netrc"),
        (answer(404), "is not there"),
        (answer(418), "answered 418"),
        (answer(200, {"Content-Encoding": "gzip"}, b"x"), "compressed"),
        (answer(206, {"Content-Range": "bytes 5-6/9"}, b"xy"), "answered 206"),
        (answer(200, {"Content-Length": str(1 << 40)}), "MB are to come|an ONNX file at most"),
        (endless, "more than 1048576 bytes came"),
    ],
)
def test_a_hostile_server_is_refused(tmp_path: Path, fault: Fault, message: str) -> None:
    """At once, and nothing that it sent is kept."""
    with serve_files({"m.onnx": BODY}) as files:
        files.faults = [fault]
        with pytest.raises(StoreError, match=message):
            bring(files, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_circle_of_redirects_ends(tmp_path: Path) -> None:
    """After five."""
    with serve_files({"m.onnx": BODY}) as files:
        files.faults = [answer(302, {"Location": "/m.onnx"})] * 20
        with pytest.raises(StoreError, match="more than 5 times"):
            bring(files, tmp_path)
    assert len(files.requests) == MAX_REDIRECTS + 1


def test_a_token_goes_to_its_host_alone(tmp_path: Path) -> None:
    """Where a redirect leads elsewhere, it does not go along; nor is the signed address told."""
    with serve_files({"m.onnx": BODY}) as other, serve_files({"m.onnx": b""}) as files:
        files.faults = [answer(302, {"Location": f"{other.url}/m.onnx"})]
        headers = {"authorization": "Bearer secret"}
        assert bring(files, tmp_path, headers=headers) == BODY
        assert files.headers["authorization"] == "Bearer secret"
        assert "authorization" not in other.headers
        files.faults = [answer(302, {"Location": f"{other.url}/m.onnx?signature=hidden"})]
        other.faults = [answer(403)]
        with pytest.raises(StoreError) as refused:
            bring(files, tmp_path / "b", headers=headers)
    assert "hidden" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_wrong_file_of_passwords_is_said(tmp_path: Path) -> None:
    """With its name, and nothing of what is in it."""
    path = tmp_path / "netrc"
    path.write_text("machine host login user hidden\n")
    remote = WebObject("https://127.0.0.1:9/m.onnx", "x", netrc=path)
    with (
        pytest.raises(StoreError, match=r"netrc:\d: cannot be read") as refused,
        remote.open(0, ""),
    ):
        pass
    assert "hidden" not in str(refused.value)


def test_https_leads_to_https_alone() -> None:
    """A machine in between could change what comes over http."""
    remote = WebObject("https://host/m.onnx", "https://host/m.onnx")
    assert remote._next_url("https://host/a", "https://b/c") == "https://b/c"
    assert remote._next_url("https://host/a", "/c") == "https://host/c"
    with pytest.raises(StoreError, match="from https to http"):
        remote._next_url("https://host/a", "http://host/a")


def test_a_server_that_is_not_there_is_tried_again() -> None:
    """By the pull, to which the error says that it may be."""
    with (
        pytest.raises(Interrupted, match="the connection failed"),
        WebObject("http://127.0.0.1:9/m.onnx", "x").open(0, ""),
    ):
        pass
