"""Downloads: what continues, what begins anew, and what ends them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.artifacts.remote import download as module
from runtime.artifacts.remote.download import (
    FREE_BYTES,
    MAX_WAIT_S,
    MIN_WINDOW_BYTES,
    RETRY_S,
    STALE_S,
    WINDOW_S,
    Pace,
    PartialFile,
    download,
    remove_stale_parts,
    retry_wait_s,
    size_refusal,
)
from runtime.artifacts.remote.objects import Interrupted, OpenedObject
from runtime.errors import StoreError

BODY = bytes(range(256)) * 4


class Scripted:
    """A file of which each opening is told beforehand: a mark, a body, where it breaks off."""

    def __init__(self, *openings: tuple[str, bytes, int | None]) -> None:
        self.openings = list(openings)
        self.begins: list[int] = []

    @contextmanager
    def open(self, begin: int, mark: str) -> Iterator[OpenedObject]:
        found, body, cut = self.openings.pop(0)
        begin = begin if found and found == mark else 0
        self.begins.append(begin)

        def chunks() -> Iterator[bytes]:
            end = len(body) if cut is None else min(cut, len(body))
            for at in range(begin, end, 100):
                yield body[at : min(at + 100, end)]
            if cut is not None:
                raise Interrupted("the connection was lost")

        yield OpenedObject(begin, len(body), found, chunks())


def bring(remote: Scripted, folder: Path, limit: int | None = None, waits: list | None = None):
    return download(
        remote,
        PartialFile(folder, "s3://b/m.onnx"),
        "s3://b/m.onnx",
        limit=limit,
        say=lambda remark: None,
        sleep=(waits if waits is not None else []).append,
    )


@pytest.mark.parametrize(
    ("failures", "asked_s", "wait_s"),
    [
        (1, 0, RETRY_S[0]),
        (2, 0, RETRY_S[1]),
        (len(RETRY_S), 0, RETRY_S[-1]),
        (len(RETRY_S) + 1, 0, None),
        (1, 7, 7),
        (1, MAX_WAIT_S, MAX_WAIT_S),
        (1, MAX_WAIT_S + 1, None),
    ],
)
def test_attempts_are_bounded(failures: int, asked_s: float, wait_s: float | None) -> None:
    """Each wait is longer than the one before, or what the server asks for; the last is the last."""
    assert retry_wait_s(failures, asked_s) == wait_s


@pytest.mark.parametrize(
    ("size", "missing", "limit", "free", "is_refused"),
    [
        (10, 10, None, FREE_BYTES + 10, False),
        (10, 10, None, FREE_BYTES + 9, True),
        (10, 2, None, FREE_BYTES + 2, False),
        (10, 10, 10, FREE_BYTES + 10, False),
        (11, 11, 10, FREE_BYTES + 99, True),
        (None, 0, 10, FREE_BYTES, False),
    ],
)
def test_what_does_not_fit_is_not_begun(
    size: int | None, missing: int, limit: int | None, free: int, is_refused: bool
) -> None:
    """Neither what the disk does not hold, nor what is no ONNX file any more."""
    assert bool(size_refusal(size, missing, limit, free)) == is_refused


def test_a_slow_server_is_seen() -> None:
    """By the window: fewer bytes than its least, and the next window counts from zero."""
    pace = Pace(0.0)
    assert not pace.is_too_slow(0, WINDOW_S - 1)
    assert pace.is_too_slow(MIN_WINDOW_BYTES - 1, WINDOW_S)
    assert not pace.is_too_slow(MIN_WINDOW_BYTES, 2 * WINDOW_S)


def test_what_was_interrupted_goes_on(tmp_path: Path) -> None:
    """From the last byte that is here, in this process and in the next."""
    first = Scripted(*[("v1", BODY, 300)] * (len(RETRY_S) + 1))
    waits: list[float] = []
    with pytest.raises(StoreError, match="the connection was lost"):
        bring(first, tmp_path, waits=waits)
    assert first.begins[:2] == [0, 299]
    assert waits == [*RETRY_S]
    second = Scripted(("v1", BODY, None))
    assert bring(second, tmp_path).read_bytes() == BODY
    assert second.begins == [299]


def test_a_file_that_was_replaced_begins_anew(tmp_path: Path) -> None:
    """No byte of the old one is in it."""
    new = BODY[::-1]
    remote = Scripted(("v1", BODY, 500), ("v2", new, None))
    assert bring(remote, tmp_path).read_bytes() == new
    assert remote.begins == [0, 0]


def test_a_file_without_a_mark_begins_anew(tmp_path: Path) -> None:
    """Since nothing says that it is the same one."""
    remote = Scripted(("", BODY, 500), ("", BODY, None))
    assert bring(remote, tmp_path).read_bytes() == BODY
    assert remote.begins == [0, 0]


def test_a_whole_file_is_not_fetched_again(tmp_path: Path) -> None:
    """A pull that was killed behind its last byte asks for one byte."""
    bring(Scripted(("v1", BODY, None)), tmp_path)
    again = Scripted(("v1", BODY, None))
    assert bring(again, tmp_path).read_bytes() == BODY
    assert again.begins == [len(BODY) - 1]


def test_more_than_was_said_is_refused(tmp_path: Path) -> None:
    """And nothing of it is kept."""

    class Liar(Scripted):
        @contextmanager
        def open(self, begin: int, mark: str) -> Iterator[OpenedObject]:
            yield OpenedObject(0, 3, "v1", iter([b"1234"]))

    with pytest.raises(StoreError, match="more than 3 bytes came"):
        bring(Liar(), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_that_does_not_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server does not say a size either."""

    class Endless(Scripted):
        @contextmanager
        def open(self, begin: int, mark: str) -> Iterator[OpenedObject]:
            yield OpenedObject(0, None, "", iter(lambda: b"x" * 1000, b""))

    monkeypatch.setattr(module, "MAX_UNTOLD_BYTES", 10_000)
    with pytest.raises(StoreError, match="more than 10000 bytes came"):
        bring(Endless(), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_drip_ends(tmp_path: Path) -> None:
    """A server that sends a byte a second brings no model, and is given up."""

    class Drip(Scripted):
        @contextmanager
        def open(self, begin: int, mark: str) -> Iterator[OpenedObject]:
            yield OpenedObject(0, 1 << 20, "", iter(lambda: b"x", b""))

    seconds = iter(range(10_000))
    with pytest.raises(StoreError, match="less than 256 KiB came in 60 s"):
        download(
            Drip(),
            PartialFile(tmp_path, "x"),
            "x",
            limit=None,
            say=lambda remark: None,
            sleep=lambda wait_s: None,
            clock=lambda: float(next(seconds)),
        )


def test_what_is_never_gone_on_with_is_removed(tmp_path: Path) -> None:
    """After a week; what is younger stays."""
    part = PartialFile(tmp_path, "x")
    part.begin_anew("v1")
    now = part.path.stat().st_mtime
    remove_stale_parts(tmp_path, now + STALE_S - 1)
    assert part.path.exists()
    os.utime(part.path, (now - 1, now - 1))
    remove_stale_parts(tmp_path, now + STALE_S)
    assert not part.path.exists()
