"""A function's log files as one story."""

from __future__ import annotations

import itertools

import pytest

from deployments.observability import logs

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


def test_records_of_all_replicas_come_in_the_order_of_their_times(folder):
    """A traceback stays with its record; Ray's words to itself are left out."""
    sources = logs.LogSources(folder, "f")
    records = list(logs.merge_logs(sources, sources.files()))
    assert [record.splitlines()[0][-5:] for record in records] == ["- one", "- two", "three"]
    assert records[2].endswith("ValueError: three")


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
