"""Rows that a process died of: run alone, then not at all."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.witness import Condemned, Death
from runtime.witness.condemned import FREE, REPLAYED_LOOK_S, Sentence, outlived, refusal, sentences
from runtime.witness.fingerprint import fingerprint

BODY = b'[{"x": 1}, {"x": 2}]'

CRASH = """
import ctypes, sys, threading
from pathlib import Path
from runtime.witness import Witness

witness = Witness(Path(sys.argv[1]), slots=1)
print(flush=True)
sys.stdin.read()

def work():
    witness.begin(0, "f", [int(mark) for mark in sys.argv[2:]])
    ctypes.string_at(0)

threading.Thread(target=work).start()
"""


def death(culprits: tuple[int, ...] = (), suspects: tuple[int, ...] = (), functions: int = 1, at: float = 0.0) -> Death:
    """Of a process that had these rows at work."""
    return Death(
        key="1-0",
        pid=1,
        at=at,
        running=("f",),
        loading=(),
        fault="Aborted" if culprits else "",
        is_out_of_memory=False,
        culprits=tuple(f"f{n}" for n in range(functions)) if culprits else (),
        suspects=("f",) if suspects else (),
        culprit_marks=tuple(7 << 16 | row for row in culprits),
        suspect_marks=tuple(7 << 16 | row for row in suspects),
        words="",
    )


@pytest.mark.parametrize(
    ("deaths", "alone", "refused"),
    [
        ([death()], (), ()),
        ([death((0,))], (0,), ()),
        ([death((0, 1, 2))], (0, 1, 2), ()),
        ([death((0,)), death((0,))], (), (0,)),
        ([death((0, 1, 2)), death((1,))], (0, 2), (1,)),  # in company, then alone: the killer among them is known
        ([death((0, 1, 2)), death((1, 2))], (0, 1, 2), ()),  # twice in company: it may have been another each time
        ([death((0, 1)), death((1, 2)), death((1, 3))], (0, 2, 3), (1,)),
        ([death((0,), functions=2), death((0,), functions=2)], (0,), ()),  # the other function's row has no mark
        ([death((), (0, 1))] * 9, (0, 1), ()),  # killed from outside, again and again
        ([death((0,), (1,)), death((0,), (1,))], (1,), (0,)),
    ],
)
def test_what_becomes_of_rows(deaths, alone, refused):
    """Culprit once: alone. Culprit twice, one time of it alone, or three times: refused. Suspect: alone."""
    expected = {7: Sentence(frozenset(alone), frozenset(refused))} if alone or refused else {}
    assert sentences(deaths) == expected


def test_a_call_that_three_processes_died_around_is_refused():
    """Of whatever they died, since it arrived; a body that many send is at work in as many, each time in another call."""
    deaths = [death((), (0, 1), at=1.0), death((0,), at=2.0), death((), (0, 2), at=3.0)]
    assert outlived(deaths, 7, 1.0) == {0}
    assert outlived(deaths, 7, 1.1) == outlived(deaths, 8, 1.0) == set()


def test_calls_are_told_apart():
    """Rows of several callers share a batch."""
    other = 8 << 16 | 0xFFFF
    (one,) = [death((0, 1))]
    both = Death(**{**{name: getattr(one, name) for name in Death.__slots__}, "culprit_marks": (*one.culprit_marks, other)})
    assert sentences([both]) == {7: Sentence(frozenset({0, 1})), 8: Sentence(frozenset({0xFFFF}))}


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


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked by POSIX means")
def test_a_peer_that_lives_learns_of_a_death_when_the_call_comes_to_it(tmp_path):
    """Replayed, the call is old, and the dead is found at once; one that starts later knows as well."""
    call = fingerprint(BODY, "f")
    first, second = crash(tmp_path, call << 16, call << 16 | 1), crash(tmp_path, call << 16 | 1)
    condemned = Condemned(tmp_path)
    assert condemned.sentence(call, 10.0) is FREE
    first.communicate()
    time.sleep(REPLAYED_LOOK_S)
    assert condemned.sentence(call) is FREE  # it came by itself, and nobody has looked
    assert condemned.sentence(call, 10.0) == Sentence(alone=frozenset({0, 1}))
    assert condemned.sentence(fingerprint(BODY, "g"), 10.0) is FREE
    second.communicate()
    time.sleep(REPLAYED_LOOK_S)
    assert condemned.sentence(call, 10.0) == Condemned(tmp_path).sentence(call) == Sentence(frozenset({0}), frozenset({1}))


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked by POSIX means")
def test_who_asks_learns_within_a_second_and_forgets_in_ten_minutes(tmp_path, monkeypatch):
    """A call that comes by itself is late by a second at most; the time of a sentence runs by itself."""
    child = crash(tmp_path, 7 << 16)
    condemned = Condemned(tmp_path)
    child.communicate()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.1)
    assert condemned.sentence(7).alone == {0}
    condemned.refresh(time.time() + 601)
    assert condemned.sentence(7) is FREE


def test_what_a_refused_caller_is_told():
    """What the row did, for how long it is refused, and where to look."""
    error = refusal("embed")
    assert (error.status, error.code) == (500, "row_quarantined")
    assert all(part in error.message for part in ("more than once", "10 minutes", "`wakeful logs embed`"))
