"""A function's log files as one story."""

from __future__ import annotations

import itertools

import pytest

from deployments import logfiles

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
    """Files of two replicas of `f`, of a function whose name is like it, and of one of Ray's own."""
    texts = {"a.out": HEAD.format("f") + FIRST, "b.err": HEAD.format("f") + SECOND, "c.out": HEAD.format("f_2") + "no\n", "d.out": "no\n"}
    for name, text in texts.items():
        (tmp_path / f"worker-{name}").write_text(text)
    return tmp_path


def test_records_of_all_replicas_come_in_the_order_of_their_times(folder):
    """A traceback stays with its record; Ray's words to itself are left out."""
    records = list(logfiles.merged(logfiles.of(folder, "f")))
    assert [record.splitlines()[0][-5:] for record in records] == ["- one", "- two", "three"]
    assert records[2].endswith("ValueError: three")


def test_a_function_has_its_own_files_only(folder):
    """Whatever their names begin with."""
    assert [path.name for path in logfiles.of(folder, "f_2")] == ["worker-c.out"]
    assert logfiles.of(folder, "g") == {}


def test_following_begins_where_reading_ended(folder):
    """Lines written since, in files that were there and in new ones; half a line waits for its end."""
    read = logfiles.of(folder, "f")
    with (folder / "worker-a.out").open("a") as file:
        file.write("four\nhal")
    (folder / "worker-e.out").write_text(HEAD.format("f") + "five\n")
    assert list(itertools.islice(logfiles.follow(folder, "f", read), 2)) == ["four", "five"]
