"""The file of a function's recorded calls: bounded, private, and whole whatever happens."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from runtime.declaration.sections import CaptureSpec
from runtime.library.capture.files import CaptureFile, delete_expired, file_of, parts_before
from runtime.library.capture.lines import header_line
from tests.problems import expect_values


class Clock:
    """Of the machine."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def line(number: int, size: int = 0) -> bytes:
    """A call's line."""
    return b'{"n":%d%s}\n' % (number, b',"x":"%s"' % (b"x" * size) if size else b"")


def numbers(path: Path) -> list[int]:
    """Of the calls in a part, which begins with the line of the format."""
    text = path.read_bytes()
    text = gzip.decompress(text) if path.suffix == ".gz" else text
    head, *calls = [json.loads(one) for one in text.splitlines()]
    assert head["wakeful_capture"] == 1
    return [one["n"] for one in calls]


def kept(file: CaptureFile) -> list[int]:
    """Of all parts, oldest first."""
    return [n for part in [*parts_before(file.path), file.path] for n in numbers(part)]


def made(folder: Path, clock: Clock | None = None, **spec: Any) -> CaptureFile:
    """The file of the function f."""
    return CaptureFile(folder, "f", CaptureSpec(**spec), "v1", clock or Clock())


def test_only_its_user_can_read_it(tmp_path):
    """The folder that is made too, and a file that is there already."""
    folder = tmp_path / "state" / "captures"
    file = made(folder)
    assert file.append([line(1)]) == 0
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    file.path.chmod(0o644)
    made(folder).append([line(2)])
    assert file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("mode", "lost"), [(0o755, 0), (0o775, 1), (0o777, 1), (0o1777, 1)])
def test_a_folder_that_is_there_stays_as_it_is(tmp_path, mode, lost):
    """It may be the machine's, or have files that others read. Where others may write, nothing is
    recorded: any file in it may be theirs a moment later.
    """
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    assert made(folder).append([line(1)]) == lost
    assert folder.stat().st_mode & 0o7777 == mode
    assert made(folder / "below").append([line(1)]) == 0


def test_a_link_is_not_followed(tmp_path):
    """A link that anything could put there would take the calls elsewhere."""
    (tmp_path / "f.jsonl").symlink_to(tmp_path / "elsewhere")
    assert made(tmp_path).append([line(1)]) == 1
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "text",
    [b"my,own\n1,2\n", b"my own", b'{"function": "f"}\n', b"\0" * 100 + b"\n", b"\0" * 9000],
)
def test_a_file_that_is_no_capture_is_left_as_it_is(tmp_path, text, caplog):
    """It may be a user's: calls are lost, which is logged once, until it is moved away."""
    path = file_of(tmp_path, "f")
    path.write_bytes(text)
    file = made(tmp_path)
    for n in range(3):
        assert file.append([line(n)]) == 1
    assert path.read_bytes() == text
    (record,) = caplog.records
    expect_values(record.getMessage(), str(path), "move it away")
    path.rename(tmp_path / "mine")
    assert file.append([line(3)]) == 0
    assert numbers(path) == [3]


def test_half_a_first_line_is_written_anew(tmp_path):
    """Of a process that died, or of a disk that was full, when the file began."""
    whole = header_line("f", "v1", 5.0, 60.0)
    for size in (1, 10, len(whole) - 1):
        file_of(tmp_path, "f").write_bytes(whole[:size])
        assert made(tmp_path).append([line(size)]) == 0
        assert numbers(file_of(tmp_path, "f")) == [size]


def test_what_is_no_file_is_not_written(tmp_path):
    """A pipe, which would hang, and a folder; nor is a pipe read that looks like a part."""
    path = file_of(tmp_path, "f")
    os.mkfifo(path)
    assert made(tmp_path).append([line(1)]) == 1
    os.mkfifo(tmp_path / "f.jsonl.1")
    delete_expired(tmp_path, {}, 1e12)
    path.unlink()
    path.mkdir()
    assert made(tmp_path).append([line(1)]) == 1


def test_another_users_file_is_not_written(tmp_path, monkeypatch):
    """Its owner would read what is in it."""
    path = file_of(tmp_path, "f")
    path.touch(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert made(tmp_path).append([line(1)]) == 1
    assert path.read_bytes() == b""


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_loses_calls_and_counts_no_line_twice(tmp_path, monkeypatch, number):
    """When it is read as when it is written."""
    made(tmp_path, keep=20).append([line(0), line(1)])
    file = made(tmp_path, keep=20)
    pread, faults = os.pread, iter([False, True, False, True])

    def failing(descriptor: int, size: int, at: int) -> bytes:
        if next(faults, False):
            raise OSError(number, os.strerror(number))
        return pread(descriptor, size, at)

    monkeypatch.setattr(os, "pread", failing)
    assert file.append([line(2)]) == 1
    assert file.append([line(2)]) == 1
    assert file.append([line(2), line(3), line(4)]) == 0
    assert kept(file) == [0, 1, 2, 3, 4]
    assert numbers(file.path) == [0, 1, 2, 3, 4]  # a part of twenty has five


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_no_more_calls_are_kept_than_declared(tmp_path, at_once):
    """And three quarters of them at least, the latest, in order."""
    file = made(tmp_path, keep=20)
    for start in range(0, 100, at_once):
        file.append([line(n) for n in range(start, start + at_once)])
        found = kept(file)
        done = start + at_once
        assert len(found) <= 20
        assert len(found) >= min(done, 15)
        assert found == list(range(done - len(found), done))


def test_no_more_bytes_are_kept_than_declared(tmp_path):
    """Whatever the lines' length; one that is longer than a part is lost."""
    file = made(tmp_path, keep_mb=4)
    dice = random.Random(5)
    for n in range(100):
        size = dice.choice([10, 150_000, 480_000, 900_000, 990_000])
        assert file.append([line(n, size)]) == 0
        assert sum(part.stat().st_size for part in tmp_path.iterdir()) <= 4_000_000
    assert file.append([line(100), line(101, 1_000_000), line(102)]) == 1
    assert kept(file)[-2:] == [100, 102]


def test_what_is_too_old_is_deleted(tmp_path):
    """Also of a function that is declared no longer, and of one that is not called."""
    clock = Clock()
    file = made(tmp_path, clock, keep_s=400)
    for n in range(6):
        file.append([line(n)])
        clock.now += 90
        delete_expired(tmp_path, {"f": 400}, clock.now)
    assert kept(file) == [2, 3, 4, 5]
    delete_expired(tmp_path, {}, clock.now + 399 - 90)
    assert parts_before(file.path) == []
    (tmp_path / "other.txt").write_text("mine")
    delete_expired(tmp_path, {"f": 100}, clock.now + 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_a_compressed_part_expires_likewise(tmp_path):
    """By its own first line."""
    file = made(tmp_path, keep_s=60)
    file.append([line(1)])
    packed = tmp_path / "f.jsonl.1.gz"
    packed.write_bytes(gzip.compress(file.path.read_bytes()))
    assert parts_before(file.path) == [packed]
    delete_expired(tmp_path, {}, 1059.0)
    assert packed.exists()
    delete_expired(tmp_path, {}, 1061.0)
    assert not packed.exists()


def test_a_compressed_part_goes_on_like_the_others(tmp_path):
    """It gets the next one's name, and goes when it is the oldest."""
    file = made(tmp_path, keep=4)
    for n in range(40):
        file.append([line(n)])
        for part in parts_before(file.path):
            if n % 3 and part.suffix != ".gz":
                part.with_name(f"{part.name}.gz").write_bytes(gzip.compress(part.read_bytes()))
                part.unlink()
        assert kept(file) == list(range(max(0, n - 3), n + 1))


def test_a_clock_that_is_set_back_begins_a_part(tmp_path):
    """And what was recorded in the future does not stay until then."""
    clock = Clock()
    clock.now = 4e9  # a machine without a battery has any time when it starts
    file = made(tmp_path, clock, keep_s=400)
    file.append([line(1)])
    clock.now = 1000.0
    file.append([line(2)])
    assert [numbers(part) for part in [*parts_before(file.path), file.path]] == [[1], [2]]
    clock.now = 990.0  # by a second or two, as it is corrected now and then
    file.append([line(3)])
    assert numbers(file.path) == [2, 3]
    delete_expired(tmp_path, {"f": 400}, clock.now)
    delete_expired(tmp_path, {"f": 400}, clock.now + 300)
    assert kept(file) == [1, 2, 3]  # from now on its age is known
    delete_expired(tmp_path, {"f": 400}, clock.now + 405)
    assert kept(file) == [2, 3]


def test_a_clock_that_is_wrong_for_a_while_deletes_nothing(tmp_path):
    """A machine without a battery has the first of all times when it starts."""
    clock = Clock()
    clock.now = 1.8e9
    file = made(tmp_path, clock, keep_s=400)
    file.append([line(1)])
    for now in (0.0, 60.0, 120.0, clock.now + 100):
        delete_expired(tmp_path, {"f": 400}, now)
        assert kept(file) == [1]
    delete_expired(tmp_path, {"f": 400}, clock.now + 401)
    assert not file.path.exists()


def test_it_goes_on_where_an_earlier_process_ended(tmp_path):
    """Counting what is there; half a line of one that died is cut off."""
    made(tmp_path, keep=20).append([line(n) for n in range(4)])
    path = file_of(tmp_path, "f")
    with path.open("ab") as half:
        half.write(b'{"n":99')
    file = made(tmp_path, keep=20)
    file.append([line(4), line(5)])
    assert numbers(path) == [5]
    assert kept(file) == [0, 1, 2, 3, 4, 5]


def test_a_full_disk_loses_calls_and_leaves_whole_lines(tmp_path, monkeypatch):
    """Those that did not fit are counted, and the next are written when there is room."""
    file = made(tmp_path)
    assert file.append([line(1)]) == 0
    write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) < 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:5])

    monkeypatch.setattr(os, "write", full)
    assert file.append([line(2), line(3)]) == 2
    monkeypatch.setattr(os, "write", write)
    assert file.append([line(4)]) == 0
    assert kept(file) == [1, 4]


def test_a_folder_that_cannot_be_made_loses_calls(tmp_path):
    """And nothing else."""
    (tmp_path / "a_file").write_text("")
    assert made(tmp_path / "a_file" / "captures").append([line(1), line(2)]) == 2


def test_a_file_that_is_moved_away_is_written_anew(tmp_path):
    """As logrotate does."""
    file = made(tmp_path)
    file.append([line(1)])
    file.path.rename(tmp_path / "taken")
    file.append([line(2)])
    assert (numbers(tmp_path / "taken"), numbers(file.path)) == ([1], [2])
    file.path.unlink()
    file.append([line(3)])
    assert numbers(file.path) == [3]


def test_several_processes_write_one_file(tmp_path):
    """Whole lines, counted together, each through a description of its own."""
    files = [made(tmp_path, keep=400) for _ in range(4)]

    def write(file: CaptureFile, first: int) -> None:
        for n in range(first, 300, 4):
            assert file.append([line(n, n)]) == 0

    threads = [
        threading.Thread(target=write, args=(file, number)) for number, file in enumerate(files)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept(files[0])) == list(range(300))
    assert max(len(numbers(part)) for part in tmp_path.iterdir()) <= 100
