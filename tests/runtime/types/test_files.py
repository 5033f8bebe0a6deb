"""A file as an answer: what it says of itself, and that a temporary one never stays."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import FunctionError
from runtime.types.annotations import MediaType, covers
from runtime.types.files import File, file_issue, open_file
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("arguments", "error", "values"),
    [
        ({}, ValueError, ("path",)),
        ({"content": b"", "path": "x"}, ValueError, ("path",)),
        ({"content": "text"}, TypeError, ("bytes", "str")),
        ({"content": b"", "delete": True}, ValueError, ("delete=True",)),
        ({"content": b"", "media_type": "png"}, ValueError, ("'png'",)),
        ({"content": b"", "media_type": "image/*"}, ValueError, ("'image/*'",)),
        ({"content": b"", "media_type": "a/b\r\nx: y"}, ValueError, ()),
        ({"content": b"", "media_type": "image/png\n"}, ValueError, ()),
        ({"content": b"", "media_type": "a/b; c=ü"}, ValueError, ()),
    ],
)
def test_a_file_says_what_it_is(
    arguments: dict[str, Any], error: type[Exception], values: tuple[str, ...]
):
    """Nothing that a header could not have."""
    with pytest.raises(error) as caught:
        File(**arguments)
    expect_values(caught.value, *values)


@pytest.mark.parametrize("name", ["png", "", "image/", "*/png", "image/p*", "a/b\n", "a b/c", "/"])
def test_a_media_type_is_one(name: str):
    """Or a range of them."""
    with pytest.raises(ValueError, match="MediaType"):
        MediaType(name)


@pytest.mark.parametrize(
    ("media", "name", "is_covered"),
    [
        ("image/png", "image/png", True),
        ("image/png", "Image/PNG; q=1", True),
        ("text/csv; charset=utf-8", "text/csv", True),
        ("image/*", "image/png", True),
        ("*/*", "image/png", True),
        ("image/*", "imagery/png", False),
        ("image/png", "image/jpeg", False),
    ],
)
def test_a_range_covers(media: str, name: str, *, is_covered: bool):
    """By type and subtype."""
    assert covers(media, name) is is_covered


@pytest.mark.parametrize(
    ("given", "declared", "values"),
    [
        (b"", "image/png", None),
        (File(b""), "image/png", None),
        (File(b"", "image/png"), "image/*", None),
        (File(b""), "image/*", ("image/*",)),
        (File(b"", "text/html"), "image/*", ("text/html", "image/*")),
        (Path("/nowhere"), "image/png", ("path",)),
        (File(path="/nowhere"), "image/png", ("path",)),
        (File(path="/"), "image/png", ("path",)),
    ],
    ids=repr,
)
def test_what_is_given_is_what_is_declared(
    given: Any, declared: str, values: tuple[str, ...] | None
):
    """Told without the path: callers read it."""
    found = file_issue(given, declared)
    assert bool(found) is (values is not None)
    expect_values(found, *(values or ()))
    assert "nowhere" not in found


def test_a_temporary_file_has_no_name_once_it_is_opened(tmp_path: Path):
    """It is read all the same, whole or in parts."""
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    opened = open_file(File(path=path, delete=True), "text/plain", 10)
    assert not path.exists()
    assert opened.read() == b"0123456789"
    part = memoryview(bytearray(4))
    assert opened.read_into(part, 3) == 4
    assert bytes(part) == b"3456"
    assert opened.read_into(part, 8) == 2
    opened.close()
    opened.close()


def test_a_temporary_file_that_is_not_wanted_goes(tmp_path: Path):
    """With the last reference; any other file stays, opened or not."""
    wanted, unwanted = tmp_path / "wanted", tmp_path / "unwanted"
    for path in (wanted, unwanted):
        path.write_bytes(b"x")
    file = File(path=unwanted, delete=True)
    assert unwanted.exists()
    del file
    gc.collect()
    assert not unwanted.exists()
    open_file(wanted, "text/plain", 1).close()
    open_file(File(path=wanted), "text/plain", 1).close()
    assert wanted.exists()


def test_descriptors_are_closed(tmp_path: Path):
    """Also those of answers that nothing was read from."""
    (tmp_path / "x").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(10):
        open_file(tmp_path / "x", "text/plain", 1)
    with pytest.raises(FunctionError):
        open_file(tmp_path / "x", "text/plain", 0)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_is_no_plain_file_is_refused(tmp_path: Path):
    """A pipe is not waited for; a file may be as large as is allowed, and not larger."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x").write_bytes(bytes(10))
    assert open_file(tmp_path / "x", "a/b", 10).size == 10
    for path, values in (
        (tmp_path / "pipe", ("plain",)),
        (tmp_path, ("plain",)),
        (tmp_path / "none", ("No such file",)),
        (tmp_path / "x", ("10", "9", "limits.max_body_bytes")),
    ):
        with pytest.raises(FunctionError) as caught:
            open_file(path, "a/b", 9)
        expect_values(caught.value.message, *values)
        assert str(tmp_path) not in caught.value.message


def test_a_file_that_becomes_shorter(tmp_path: Path):
    """Is no answer."""
    path = tmp_path / "x"
    path.write_bytes(bytes(10))
    opened = open_file(path, "a/b", 10)
    os.truncate(path, 5)
    with pytest.raises(FunctionError):
        opened.read()
