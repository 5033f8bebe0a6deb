"""The access log: what a line has, that lines of two processes do not mix, rotation, bounds."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from runtime.errors import LoadError
from runtime.system.telemetry import background
from runtime.system.telemetry.access_log import (
    PIPE_BYTES,
    AccessLog,
    AccessRecord,
    AppendedFile,
    whole_lines,
)
from runtime.system.telemetry.background import BackgroundWriter
from tests import serving

TIMINGS = {"queue": 0.001, "batch": 0.002, "preprocess": 0.0, "model": 0.0034567, "postprocess": 0}

COMPUTED = AccessRecord(1e9, b"id-1", "embed", 200, "", 20, 900, 0.01, TIMINGS, 2, 0.5)
REFUSED = AccessRecord(1e9, b"\xff", "embed", 429, "overloaded", 0, 90, 0.001, None, 0, 0.0)


def test_a_line_has_what_is_known_of_the_call_and_no_more():
    """A call that was refused has no parts; one whose function was awake waited for no wake."""
    assert json.loads(COMPUTED.to_line(b'"r"')) == {
        "time": "2001-09-09T01:46:40.000Z",
        "id": "id-1",
        "function": "embed",
        "status": 200,
        "bytes_in": 20,
        "bytes_out": 900,
        "ms": 10.0,
        "rows": 2,
        "queue_ms": 1.0,
        "batch_ms": 2.0,
        "model_ms": 3.457,
        "wake_ms": 500.0,
        "replica": "r",
    }
    assert json.loads(REFUSED.to_line(b'"r"')) == {
        "time": "2001-09-09T01:46:40.000Z",
        "id": "ÿ",
        "function": "embed",
        "status": 429,
        "code": "overloaded",
        "bytes_in": 0,
        "bytes_out": 90,
        "ms": 1.0,
        "replica": "r",
    }


def test_a_key_is_told_by_its_name():
    """Only where a call came with one."""
    assert json.loads(REFUSED._replace(key='ops"1').to_line(b'"r"'))["key"] == 'ops"1'
    assert "key" not in json.loads(COMPUTED.to_line(b'"r"'))


@contextmanager
def log_of(path: Path, max_bytes: int = 1 << 30) -> Iterator[AccessLog]:
    """An access log; a lost line fails the test."""
    lost: list[int] = []
    log = AccessLog(path, max_bytes, "r", lost.append)
    try:
        yield log
    finally:
        log.close()
    assert not lost


def lines(path: Path) -> list[dict[str, object]]:
    """Each parsed."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_put_is_written_when_it_is_closed(tmp_path):
    """In order, in a folder that is made; a second log goes on where the first ended."""
    path = tmp_path / "logs" / "access.log"
    for ids in ((b"1", b"2"), (b"3",)):
        with log_of(path) as log:
            for one in ids:
                log.put(COMPUTED._replace(request_id=one))
    assert [line["id"] for line in lines(path)] == ["1", "2", "3"]


def test_standard_output(capsys):
    """The same lines."""
    with log_of(Path("-")) as log:
        log.put(REFUSED)
    assert json.loads(capsys.readouterr().out)["code"] == "overloaded"


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ([], []),
        ([10], [1]),
        ([PIPE_BYTES], [1]),
        ([PIPE_BYTES // 2, PIPE_BYTES // 2, 1], [2, 1]),
        ([1, PIPE_BYTES + 5, 1], [1, 1, 1]),
        ([100] * 100, [40, 40, 20]),
    ],
)
def test_lines_go_to_a_pipe_in_parts_that_it_takes_whole(lengths, parts):
    """A line is never cut, so that those of several processes stay whole."""
    lines = b"".join(b"x" * (length - 1) + b"\n" for length in lengths)
    found = list(whole_lines(lines))
    assert b"".join(found) == lines
    assert [part.count(b"\n") for part in found] == parts
    assert all(part.endswith(b"\n") for part in found)


def test_a_file_that_cannot_be_written_is_said_at_the_start(tmp_path):
    """With the variable that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(LoadError, match="WAKEFUL_ACCESS_LOG"):
        AccessLog(tmp_path / "file" / "access.log", 100, "r", print)


def append(path: Path, name: str, count: int, start: threading.Barrier) -> None:
    """In a process of its own: lines, a few in each write."""
    file = AppendedFile(path, 20_000)
    start.wait(60)
    for number in range(count):
        line = json.dumps({"from": name, "number": number, "filler": "x" * 80}) + "\n"
        file.append((line * 3).encode())


def test_lines_of_several_processes_are_whole_and_the_file_is_bounded(tmp_path):
    """Three processes fill it many times over: each line is one, and what is kept of a process is
    the end of what it wrote, without a gap.
    """
    path, context = tmp_path / "access.log", multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    processes = [
        context.Process(target=append, args=(path, name, 300, start)) for name in ("a", "b", "c")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert {file.name for file in tmp_path.iterdir()} == {"access.log", "access.log.1"}
    for file in tmp_path.iterdir():
        assert file.stat().st_size < 20_000 + 3 * 400
    kept = lines(tmp_path / "access.log.1") + lines(path)
    for name in ("a", "b", "c"):
        numbers = [line["number"] for line in kept if line["from"] == name]
        assert numbers == sorted(numbers)
        assert len(numbers) == 3 * len(set(numbers))
        assert not numbers or sorted(set(numbers)) == list(range(numbers[0], numbers[-1] + 1))


def test_a_file_that_something_else_has_renamed_is_opened_again(tmp_path):
    """As logrotate does."""
    path = tmp_path / "access.log"
    file = AppendedFile(path, 1 << 30)
    file.append(b"1\n")
    path.rename(tmp_path / "access.log-2026")
    file.append(b"2\n")
    assert (path.read_bytes(), (tmp_path / "access.log-2026").read_bytes()) == (b"2\n", b"1\n")


def test_a_full_queue_drops_and_counts():
    """While the disk does not answer; what was queued is written when it does."""
    may_write, is_writing = threading.Event(), threading.Event()
    written: list[int] = []
    lost: list[int] = []

    def write(records: object) -> None:
        is_writing.set()
        assert may_write.wait(60)
        written.extend(records)  # type: ignore[call-overload]

    writer: BackgroundWriter[int] = BackgroundWriter("test", write, lost.append, max_queued=3)
    writer.put(0)
    assert is_writing.wait(60)
    for number in range(1, 6):
        writer.put(number)
    may_write.set()
    writer.close(60)
    assert (written, sum(lost)) == ([0, 1, 2, 3], 2)


def test_a_quarter_of_the_queue_is_not_gathered_any_longer():
    """Else calls that come fast would be dropped while the thread gathers."""
    written: list[int] = []
    is_written = threading.Event()

    def write(records: Sequence[int]) -> None:
        written.extend(records)
        is_written.set()

    writer: BackgroundWriter[int] = BackgroundWriter(
        "test", write, lambda _: None, max_queued=40, gather_s=3600
    )
    for number in range(11):
        writer.put(number)
    assert is_written.wait(60)
    writer.put(11)
    writer.close(60)
    assert written == list(range(12))


def test_records_that_cannot_be_written_are_counted_and_the_next_are_tried(caplog):
    """One line of log says why."""
    written: list[int] = []
    lost: list[int] = []
    is_lost = threading.Event()

    def write(records: Sequence[int]) -> None:
        if 1 in records:
            raise OSError("no space")
        written.extend(records)

    def drop(count: int) -> None:
        lost.append(count)
        is_lost.set()

    writer: BackgroundWriter[int] = BackgroundWriter("test", write, drop, gather_s=0.01)
    writer.put(1)
    assert is_lost.wait(60)
    writer.put(3)
    writer.close(60)
    assert (written, sum(lost)) == ([3], 1)
    assert "OSError: no space" in caplog.text


def test_what_comes_before_the_close_is_written(monkeypatch):
    """Though the thread has taken all the others when the last record and the close come."""
    written: list[int] = []
    leaving: list[threading.Thread] = []

    class LastOneLate(deque[int]):
        def popleft(self) -> int:
            if not leaving:
                leaving.append(threading.Thread(target=lambda: (writer.put(2), writer.close(60))))
                leaving[0].start()
                until = time.monotonic() + 60
                while not writer._is_closed and time.monotonic() < until:
                    time.sleep(0.001)
            return super().popleft()

    monkeypatch.setattr(background, "deque", LastOneLate)
    writer: BackgroundWriter[int] = BackgroundWriter(
        "test", written.extend, lambda _: None, gather_s=0.01
    )
    writer.put(1)
    writer._thread.join(60)
    leaving[0].join(60)
    assert written == [1, 2]


@pytest.mark.slow
def test_run_writes_a_line_for_each_call(tmp_path):
    """The first call waits for its wake; ids are those of the answers; reading the catalogue is no
    call.
    """
    (tmp_path / "greet.py").write_text("def hello(name: str) -> str:\n    return f'hello {name}'\n")
    (tmp_path / "serve_config.yaml").write_text(
        "applications:\n"
        "  - {name: catalogue, route_prefix: /, import_path: 'deployments:catalogue'}\n"
        "  - name: hello\n"
        "    route_prefix: /v2/models/hello\n"
        "    import_path: deployments:function\n"
        "    args: {graph: [{stage: greeting, python: 'greet:hello'}]}\n"
    )
    more = {"WAKEFUL_ACCESS_LOG": "access.log"}
    with serving.run(
        tmp_path / "serve_config.yaml", root=tmp_path, log=tmp_path / "log", more=more
    ) as url:
        target = f"{url}/v2/models/hello"
        good = httpx.post(target, json={"name": "bo"}, headers={"x-request-id": "mine"})
        bad = httpx.post(target, json={"name": 7})
        httpx.get(target)
        httpx.get(f"{url}/metrics")
    assert (good.status_code, bad.status_code) == (200, 400)
    first, second = lines(tmp_path / "access.log")
    assert (first["id"], first["status"], first["rows"]) == ("mine", 200, 1)
    assert first["bytes_in"] == len(good.request.content)
    assert first["bytes_out"] == len(good.content)
    assert datetime.fromisoformat(str(first["time"])).year >= 2025
    assert str(first["replica"]).startswith("run-")
    assert (second["id"], second["code"]) == (bad.headers["x-request-id"], bad.json()["code"])
    assert "bo" not in (tmp_path / "access.log").read_text()
    assert (tmp_path / "access.log").stat().st_mode & 0o007 == 0
