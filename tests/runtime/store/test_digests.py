"""Digests of files, each of which is read once for each state of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from runtime.store import digests
from runtime.store.digests import FOLDER, LARGE_BYTES, sha256_as_of


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were read, in a process that has read none."""
    found: list[str] = []
    original = digests.sha256_of

    def noted(path: Path) -> str:
        found.append(path.name)
        return original(path)

    monkeypatch.setattr(digests, "sha256_of", noted)
    digests._sha256_as_of.cache_clear()
    return found


@pytest.mark.parametrize(("size", "is_kept"), [(LARGE_BYTES - 1, False), (LARGE_BYTES, True)])
def test_a_large_file_is_read_once_by_all_processes(tmp_path: Path, read: list[str], size: int, is_kept: bool) -> None:
    """Unless it changes; a small one is read by each."""
    file, models = tmp_path / "m.onnx", tmp_path / "models"
    for content in (b"a", b"b"):
        file.write_bytes(content * size)
        os.utime(file, ns=(0, content[0] * 10**9))
        for _ in range(2):
            assert sha256_as_of(file, models) == hashlib.sha256(content * size).hexdigest()
        assert len(read) == 1
        digests._sha256_as_of.cache_clear()  # another process
        assert sha256_as_of(file, models) == hashlib.sha256(content * size).hexdigest()
        assert len(read) == (1 if is_kept else 2)
        read.clear()


@pytest.mark.parametrize("content", ["", "{}", "[]", '["x"]', "[1, 2, 3]"])
def test_what_cannot_be_read_is_no_digest(tmp_path: Path, read: list[str], content: str) -> None:
    """A cut file, or another version's."""
    file = tmp_path / "m.onnx"
    file.write_bytes(b"a" * LARGE_BYTES)
    right = sha256_as_of(file, tmp_path)
    (kept,) = (tmp_path / FOLDER).glob("*.json")
    kept.write_text(content)
    digests._sha256_as_of.cache_clear()
    assert sha256_as_of(file, tmp_path) == right
    assert len(read) == 2


def test_a_folder_that_cannot_be_written_keeps_none(tmp_path: Path, read: list[str]) -> None:
    """A file stands where the folder would be."""
    file = tmp_path / "m.onnx"
    file.write_bytes(b"a" * LARGE_BYTES)
    assert sha256_as_of(file, file) == hashlib.sha256(b"a" * LARGE_BYTES).hexdigest()
