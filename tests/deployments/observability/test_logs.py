"""A function's log files as one story."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deployments.observability import logs
from deployments.observability.console_log import FunctionLog

HEAD = ":job_id:01000000\n:actor_name:ServeReplica:{}:Function\n"

FIRST = """\
OUT 2026-01-01 10:00:00,100 f 7 -- one
ERR 2026-01-01 10:00:00,300 f 7 -- three
Traceback (most recent call last):
ValueError: three
"""
SECOND = "WARNING 2026-01-01 10:00:00,200 f_Function b -- two\n"


@pytest.fixture
def folder(tmp_path):
    """Files of two replicas of `f`, of a function whose name is like it, and of one of Ray's
    own.
    """
    texts = {
        "a.out": HEAD.format("f") + FIRST,
        "b.err": HEAD.format("f") + SECOND,
        "c.out": HEAD.format("f_2") + "no\n",
        "d.out": "no\n",
    }
    for name, text in texts.items():
        (tmp_path / f"worker-{name}").write_text(text)
    return tmp_path


@pytest.mark.parametrize("short_bytes", [0, 1 << 16])
def test_records_of_all_replicas_come_in_the_order_of_their_times(folder, short_bytes, monkeypatch):
    """A traceback stays with its record; Ray's words to itself are left out. A long file is read
    line by line.
    """
    monkeypatch.setattr(logs, "SHORT_BYTES", short_bytes)
    sources = logs.LogSources(folder, "f")
    records = list(logs.merge_logs(sources, sources.files()))
    assert [record.splitlines()[0][-5:] for record in records] == ["- one", "- two", "three"]
    assert records[2].endswith("ValueError: three")


@pytest.mark.parametrize("short_bytes", [0, 1 << 16])
def test_what_was_written_since_is_not_read(folder, short_bytes, monkeypatch):
    """Half a line is shown as far as it was there, whatever bytes it has."""
    monkeypatch.setattr(logs, "SHORT_BYTES", short_bytes)
    sources = logs.LogSources(folder, "f")
    with (folder / "worker-a.out").open("ab") as file:
        file.write(b"OUT 2026-01-01 10:00:00,500 f 7 -- \xff\rfive, hal")
    files = sources.files()
    with (folder / "worker-a.out").open("ab") as file:
        file.write(b"f a line\nOUT 2026-01-01 10:00:00,600 f 7 -- six\n")
    records = list(logs.merge_logs(sources, files))
    assert (len(records), records[-1].endswith("\ufffd\rfive, hal")) == (4, True)


def test_a_function_has_its_own_files_only(folder):
    """Whatever their names begin with."""
    assert [path.name for path in logs.LogSources(folder, "f_2").files()] == ["worker-c.out"]
    assert logs.LogSources(folder, "g").files() == {}


def test_following_begins_where_reading_ended(folder):
    """Lines written since, in files that were there and in new ones; half a line waits for its
    end.
    """
    sources = logs.LogSources(folder, "f")
    read = sources.files()
    with (folder / "worker-a.out").open("a") as file:
        file.write("four\nhal")
    (folder / "worker-e.out").write_text(HEAD.format("f") + "five\n")
    assert list(itertools.islice(logs.follow_logs(sources, read), 2)) == ["four", "five"]


def test_a_folder_of_many_files_is_read_once(tmp_path, monkeypatch):
    """A page that shows a function looks each second: it lists the folder, and reads of a process
    that has said whose it is nothing more than its function's lines.
    """
    for number in range(1000):
        text = HEAD.format("f" if number % 100 == 7 else "g") + line(number)
        (tmp_path / f"worker-aa-01-{number}.out").write_text(text)
    counts = Counter[str]()

    def counted(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def call(*args: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*args, **named)

        monkeypatch.setattr(owner, name, call)

    for name in ("glob", "open"):
        counted(Path, name)
    log = FunctionLog(lambda: logs.LogSources(tmp_path, "f"))
    assert [one["text"] for one in log.read_last()] == [str(n) for n in range(7, 1000, 100)]
    assert (counts["glob"], counts["open"]) == (1, 1010)
    counts.clear()
    assert log.read_new() == []
    assert (counts["glob"], counts["open"]) == (1, 10)
    (tmp_path / "worker-aa-01-8.err").write_text(HEAD.format("g") + line(8))
    (tmp_path / "worker-bb-01-1.out").write_text(HEAD.format("f") + line(1001))
    assert [one["text"] for one in log.read_new()] == ["1001"]


def test_following_sees_that_a_file_is_another_at_its_place(tmp_path):
    """What `wakeful run` writes is kept in two files, and the disk gives the third the place of the
    first: shorter than what was read of that, it is read from its beginning.
    """
    path = tmp_path / "1.log"
    path.write_text("".join(map(line, range(9))))
    sources = logs.LogSources(tmp_path / "none", "f", runs=(path,))
    follower = logs.LogFollower(sources, sources.files())
    identity = path.stat().st_ino
    path.write_text(line(10))  # the same place on the disk
    assert path.stat().st_ino == identity
    assert said(list(follower.read_new())) == [10]


SHARED = """\
OUT 2026-01-01 10:00:00,150 f 9 -- in the host
ERR 2026-01-01 10:00:00,160 g 9 -- of another
Traceback (most recent call last):
ERR 2026-01-01 10:00:00,170 f 9 -- again
"""


def test_of_a_host_only_what_the_function_wrote_is_shown(folder):
    """Others wrote into the same file; their tracebacks go with them."""
    (folder / "worker-h.err").write_text(":actor_name:ServeReplica:host:Host\n" + SHARED)
    sources = logs.LogSources(folder, "f", ("host",))
    records = list(logs.merge_logs(sources, sources.files()))
    assert [record.splitlines()[0].partition(" -- ")[2] for record in records] == [
        "one",
        "in the host",
        "again",
        "two",
        "three",
    ]
    after = {
        path: 0 if path.name == "worker-h.err" else size for path, size in sources.files().items()
    }
    assert list(itertools.islice(logs.follow_logs(sources, after), 2)) == [
        line for line in SHARED.splitlines() if " f 9 -- " in line
    ]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            "OUT 2026-01-01 10:00:00,100 f 7 -- a -- b",
            {"at": "2026-01-01 10:00:00.100", "kind": "OUT", "text": "a -- b"},
        ),
        (SECOND.strip(), {"at": "2026-01-01 10:00:00.200", "kind": "WARNING", "text": "two"}),
        ("ValueError: three", {"at": "", "kind": "", "text": "ValueError: three"}),
    ],
)
def test_a_record_as_plain_data(record, expected):
    """For programs."""
    assert logs.parse_record(record) == expected


def test_what_a_run_wrote_is_shared_by_its_functions(folder):
    """As what a host wrote."""
    run = folder / "1.log"
    run.write_text(FIRST + "OUT 2026-01-01 10:00:00,400 g 7 -- other\n")
    sources = logs.LogSources(folder, "g", (), (run,))
    assert list(logs.merge_logs(sources, sources.files())) == [
        "OUT 2026-01-01 10:00:00,400 g 7 -- other"
    ]


def line(number: int, function: str = "f") -> str:
    """One record of a process that has written many."""
    return (
        f"ERR 2026-01-01 10:00:{number // 1000:02d},{number % 1000:03d} {function} 7 -- {number}\n"
    )


def said(records: list[str]) -> list[int]:
    """Their numbers."""
    return [int(record.rpartition(" ")[2]) for record in records]


def test_full_files_belong_to_their_process(tmp_path):
    """Ray says whose it is in the first file of each stream, and numbers the files that are full:
    the higher, the older.
    """
    (tmp_path / "worker-a-7.out").write_text(HEAD.format("f"))
    for name, first in {"err": 6, "err.1": 3, "err.2": 0}.items():
        text = "".join(map(line, range(first, first + 3)))
        (tmp_path / f"worker-a-7.{name}").write_text(text)
    (tmp_path / "worker-b-8.err.1").write_text(HEAD.format("g") + line(0, "g"))
    sources = logs.LogSources(tmp_path, "f")
    assert said(list(logs.merge_logs(sources, sources.files()))) == list(range(9))
    assert [path.name for path in sources.files()] == [
        "worker-a-7.err.2",
        "worker-a-7.err.1",
        "worker-a-7.err",
        "worker-a-7.out",
    ]


def test_a_process_whose_first_files_are_gone_is_known_by_its_records(tmp_path):
    """What a stage prints may push them out; nothing of another function is shown."""
    for stream in ("out", "err"):
        for name in (stream, f"{stream}.1"):
            text = line(1, f"g{stream}") + line(len(name), "f")
            (tmp_path / f"worker-a-7.{name}").write_text(text)
    (tmp_path / "worker-c-9.err").write_text(line(9))  # of no actor, and never full
    sources = logs.LogSources(tmp_path, "f")
    assert said(list(logs.merge_logs(sources, sources.files()))) == [3, 3, 5, 5]


def test_following_goes_on_while_files_are_full_and_get_other_names(tmp_path):
    """No line is lost or shown twice, also where the disk gives a new file the place of an old
    one.
    """
    (tmp_path / "worker-a-7.out").write_text(HEAD.format("f"))
    path = tmp_path / "worker-a-7.err"
    path.write_text(HEAD.format("f"))
    sources = logs.LogSources(tmp_path, "f")
    found = logs.follow_logs(sources, sources.files())
    shown = list[str]()
    for number in range(0, 40, 2):
        with path.open("a") as file:
            file.write(line(number))
        shown.append(next(found))
        with path.open("a") as file:  # unseen when the file is full
            file.write(line(number + 1))
        if number % 4 == 2:
            (tmp_path / "worker-a-7.err.2").unlink(missing_ok=True)
            if (tmp_path / "worker-a-7.err.1").exists():
                (tmp_path / "worker-a-7.err.1").rename(tmp_path / "worker-a-7.err.2")
            path.rename(tmp_path / "worker-a-7.err.1")
        shown.append(next(found))
    assert said(shown) == list(range(40))
