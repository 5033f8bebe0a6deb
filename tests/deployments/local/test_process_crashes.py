"""When a process is started in the place of one that died, and what its death says of functions."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict

import pytest

from deployments.local.process_crashes import (
    RECENT_S,
    ProcessCrashes,
    count_recent,
    restart_wait_s,
)
from runtime.declaration.function_spec import FunctionSpec
from runtime.system.crash import CrashReport


@pytest.mark.parametrize(
    ("recent", "wait_s"),
    [(1, 0.0), (3, 0.0), (4, 0.5), (5, 1.0), (9, 16.0), (10, 30.0), (20, 30.0)],
)
def test_the_wait_grows_where_a_place_does_not_come_to_rest(recent, wait_s):
    """The first three are replaced at once, then later and later, half a minute at most."""
    assert restart_wait_s(recent) == wait_s


def test_an_end_counts_for_a_minute():
    """Then it is forgotten."""
    assert count_recent([0.0, 10.0, RECENT_S], now=RECENT_S) == 2


def crash(number, **of):
    """What a process left."""
    told = {
        "key": f"{number}-0",
        "pid": number,
        "at": time.time(),
        "running": (),
        "loading": (),
        "fault": "Segmentation fault",
        "is_out_of_memory": False,
        "culprits": ("f",),
        "suspects": (),
        "cause_row_ids": (),
        "suspect_row_ids": (),
        "words": "Segmentation fault",
        "versions": {"f": ["0123456789abcdef"]},
    }
    return CrashReport(**{**told, **of})


def leave(folder, *crashes):
    """As the process that notices them does."""
    for one in crashes:
        (folder / f"{one.key}.dead").write_text(json.dumps(asdict(one)))


def specs(*names):
    """Functions."""
    graph = [{"stage": "s", "python": "mine:stage"}]
    return [FunctionSpec.from_args(name, f"/{name}", {"graph": graph}) for name in names]


def test_four_processes_of_any_place_are_a_quarantine(tmp_path):
    """Of the function that brought them down, and of no other; three are none. Each counts once."""
    crashes = ProcessCrashes(tmp_path, specs("f", "g"))
    leave(tmp_path, *(crash(number) for number in range(3)))
    crashes.read()
    crashes.read()
    assert crashes.quarantined == {}
    leave(tmp_path, crash(3))
    crashes.read()
    assert list(crashes.quarantined) == ["f"]
    assert crashes.quarantined["f"].startswith(
        "it is quarantined: it brought down process 0 (Segmentation fault); "
    )
    assert "start `wakeful run` again" in crashes.quarantined["f"]


def test_processes_that_were_killed_from_outside_are_none(tmp_path):
    """However often a function was at work in them."""
    crashes = ProcessCrashes(tmp_path, specs("f"))
    told = {"fault": "", "culprits": (), "suspects": ("f",), "words": "killed"}
    leave(tmp_path, *(crash(number, **told) for number in range(8)))
    crashes.read()
    assert crashes.quarantined == {}


def test_a_run_without_crashes_has_no_folder(tmp_path):
    """Nothing is made."""
    crashes = ProcessCrashes(tmp_path / str(os.getpid()), specs("f"))
    crashes.read()
    assert list(tmp_path.iterdir()) == []
