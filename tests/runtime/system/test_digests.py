"""Digests of files, each of which is read once for each state of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from runtime.system import files
from runtime.system.files import FOLDER, LARGE_BYTES, cached_sha256


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were read, in a process that has read none."""
    found: list[str] = []
    original = files.sha256_of

    def noted(path: Path) -> str:
        found.append(path.name)
        return original(path)

    monkeypatch.setattr(files, "sha256_of", noted)
    files._sha256_as_of.cache_clear()
    return found


@pytest.mark.parametrize(("size", "is_kept"), [(LARGE_BYTES - 1, False), (LARGE_BYTES, True)])
def test_a_large_file_is_read_once_by_all_processes(
    tmp_path: Path, read: list[str], size: int, is_kept: bool
) -> None:
    """Unless it changes; a small one is read by each."""
    file, models = tmp_path / "m.onnx", tmp_path / "models"
    for content in (b"a", b"b"):
        file.write_bytes(content * size)
        os.utime(file, ns=(0, content[0] * 10**9))
        for _ in range(2):
            assert cached_sha256(file, models) == hashlib.sha256(content * size).hexdigest()
        assert len(read) == 1
        files._sha256_as_of.cache_clear()  # another process
        assert cached_sha256(file, models) == hashlib.sha256(content * size).hexdigest()
        assert len(read) == (1 if is_kept else 2)
        read.clear()


@pytest.mark.parametrize("content", ["", "{}", "[]", '["x"]', "[1, 2, 3]"])
def test_what_cannot_be_read_is_no_digest(tmp_path: Path, read: list[str], content: str) -> None:
    """A cut file, or another version's."""
    file = tmp_path / "m.onnx"
    file.write_bytes(b"a" * LARGE_BYTES)
    right = cached_sha256(file, tmp_path)
    (kept,) = (tmp_path / FOLDER).glob("*.json")
    kept.write_text(content)
    files._sha256_as_of.cache_clear()
    assert cached_sha256(file, tmp_path) == right
    assert len(read) == 2


def test_a_folder_that_cannot_be_written_keeps_none(tmp_path: Path, read: list[str]) -> None:
    """A file is where the folder would be."""
    file = tmp_path / "m.onnx"
    file.write_bytes(b"a" * LARGE_BYTES)
    assert cached_sha256(file, file) == hashlib.sha256(b"a" * LARGE_BYTES).hexdigest()
