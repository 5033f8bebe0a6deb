"""Rows that a process died of: run alone, then not at all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from runtime.system.crash import CrashReport, RowQuarantine
from runtime.system.crash.quarantine import (
    FREE,
    RowDecision,
    decide_rows,
    quarantine_error,
    rows_exceeding_crash_limit,
)
from runtime.system.crash.recorder import fingerprint
from runtime.system.crash.reports import ProcessWatch

BODY = b'[{"x": 1}, {"x": 2}]'

CRASH = """
import ctypes, sys, threading
from pathlib import Path
from runtime.system.crash import CrashRecorder

recorder = CrashRecorder(Path(sys.argv[1]), slots=1)
print(flush=True)
sys.stdin.read()

def work():
    recorder.begin(0, "f", [int(mark) for mark in sys.argv[2:]])
    ctypes.string_at(0)

threading.Thread(target=work).start()
"""


def report(
    culprits: tuple[int, ...] = (),
    suspects: tuple[int, ...] = (),
    functions: int = 1,
    at: float = 0.0,
) -> CrashReport:
    """Of a process that had these rows at work."""
    return CrashReport(
        key="1-0",
        pid=1,
        at=at,
        running=("f",),
        loading=(),
        fault="Aborted" if culprits else "",
        is_out_of_memory=False,
        culprits=tuple(f"f{n}" for n in range(functions)) if culprits else (),
        suspects=("f",) if suspects else (),
        cause_row_ids=tuple(7 << 16 | row for row in culprits),
        suspect_row_ids=tuple(7 << 16 | row for row in suspects),
        words="",
    )


@pytest.mark.parametrize(
    ("reports", "alone", "refused"),
    [
        ([report()], (), ()),
        ([report((0,))], (0,), ()),
        ([report((0, 1, 2))], (0, 1, 2), ()),
        ([report((0,)), report((0,))], (), (0,)),
        # with batch-mates, then alone: the row that crashed the process is known
        ([report((0, 1, 2)), report((1,))], (0, 2), (1,)),
        # twice with batch-mates: it may have been another each time
        ([report((0, 1, 2)), report((1, 2))], (0, 1, 2), ()),
        ([report((0, 1)), report((1, 2)), report((1, 3))], (0, 2, 3), (1,)),
        # the other function's row has no mark
        ([report((0,), functions=2), report((0,), functions=2)], (0,), ()),
        ([report((), (0, 1))] * 9, (0, 1), ()),  # killed from outside, again and again
        ([report((0,), (1,)), report((0,), (1,))], (1,), (0,)),
    ],
)
def test_what_becomes_of_rows(reports, alone, refused):
    """Culprit once: alone. Culprit twice, one time of it alone, or three times: refused. Suspect:
    alone.
    """
    expected = {7: RowDecision(frozenset(alone), frozenset(refused))} if alone or refused else {}
    assert decide_rows(reports) == expected


def test_a_call_that_three_processes_died_around_is_refused():
    """Of whatever they died, since it arrived; a body that many send is at work in as many, each
    time in another call.
    """
    reports = [report((), (0, 1), at=1.0), report((0,), at=2.0), report((), (0, 2), at=3.0)]
    assert rows_exceeding_crash_limit(reports, 7, 1.0) == {0}
    assert (
        rows_exceeding_crash_limit(reports, 7, 1.1)
        == rows_exceeding_crash_limit(reports, 8, 1.0)
        == set()
    )


def test_calls_are_distinguished():
    """Rows of several callers share a batch."""
    other = 8 << 16 | 0xFFFF
    (one,) = [report((0, 1))]
    both = CrashReport(
        **{
            **{name: getattr(one, name) for name in CrashReport.__slots__},
            "cause_row_ids": (*one.cause_row_ids, other),
        }
    )
    assert decide_rows([both]) == {
        7: RowDecision(frozenset({0, 1})),
        8: RowDecision(frozenset({0xFFFF})),
    }


def crash(folder: Path, *marks: int) -> subprocess.Popen[bytes]:
    """A process that crashes with these rows when its input ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", CRASH, str(folder), *map(str, marks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform == "win32", reason="files are locked by POSIX means")
async def test_a_replayed_call_finds_the_crash_that_it_follows(tmp_path, monkeypatch):
    """However short a time before other old calls were decided. A process that starts later knows of
    the crash as well.
    """
    call = fingerprint(BODY, "f")
    first, second = crash(tmp_path, call << 16, call << 16 | 1), crash(tmp_path, call << 16 | 1)
    quarantine = RowQuarantine(tmp_path)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert quarantine.decide(call, 10.0) is FREE
    first.communicate()
    await asyncio.sleep(0)
    assert quarantine.decide(call) is FREE  # it was not replayed
    assert quarantine.decide(call, 10.0) == RowDecision(alone=frozenset({0, 1}))
    assert quarantine.decide(fingerprint(BODY, "g"), 10.0) is FREE
    second.communicate()
    await asyncio.sleep(0)
    assert (
        quarantine.decide(call, 10.0)
        == RowQuarantine(tmp_path).decide(call)
        == RowDecision(frozenset({0}), frozenset({1}))
    )


@pytest.mark.anyio
async def test_old_calls_of_one_turn_of_the_loop_share_a_look(tmp_path, monkeypatch):
    """In a busy process every call is old. Where nothing has changed, no crash file is read."""
    quarantine = RowQuarantine(tmp_path)
    looks, reads = Mock(wraps=ProcessWatch.has_changed), Mock(wraps=quarantine.refresh)
    monkeypatch.setattr(ProcessWatch, "has_changed", lambda watch: looks(watch))
    monkeypatch.setattr(quarantine, "refresh", reads)
    for turn in range(1, 4):
        for call in range(3):
            assert quarantine.decide(call, 10.0) is FREE
        assert looks.call_count == turn
        await asyncio.sleep(0)
    reads.assert_not_called()


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked by POSIX means")
def test_a_process_knows_within_a_second_and_forgets_in_ten_minutes(tmp_path, clock):
    """A call that comes by itself is late by a second at most; the time of a quarantine runs by
    itself.
    """
    child = crash(tmp_path, 7 << 16)
    quarantine = RowQuarantine(tmp_path)
    child.communicate()
    clock.advance(1.1)
    assert quarantine.decide(7).alone == {0}
    quarantine.refresh(time.time() + 601)
    assert quarantine.decide(7) is FREE


def test_the_message_of_a_refused_call():
    """What the row did, for how long it is refused, and where to look."""
    error = quarantine_error("embed")
    assert (error.status, error.code) == (500, "row_quarantined")
    assert all(
        part in error.message for part in ("more than once", "10 minutes", "`wakeful logs embed`")
    )
