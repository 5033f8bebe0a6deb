"""Who brought a process down: real processes that crash, leave or are killed while functions are at work in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.witness import Death, Witness, last_words, told
from runtime.witness.lastwords import Work, verdict

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files are locked by POSIX means")

LIFE = """
import ctypes, os, signal, sys, threading
from pathlib import Path
from runtime.witness import Witness

folder = Path(sys.argv[1])
witness = Witness(folder, slots=2, counters=[folder / "oom"])
at_work = threading.Barrier(2)

def innocent():
    witness.begin(0, "innocent", [1])
    at_work.wait()
    threading.Event().wait()

def crash():
    ctypes.string_at(0)

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def out_of_memory():
    (folder / "oom").write_text("low 0\\noom_kill 4\\n")
    killed()

def by_a_library():
    libc = ctypes.CDLL(None)
    libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.abort, None)
    threading.Event().wait()

def guilty(do):
    witness.begin(1, "finished", [2, 3, 4])
    witness.end(1)
    witness.begin(1, "guilty", [5, 2**64 - 1])
    do()

def worker(do):
    threading.Thread(target=guilty, args=(do,)).start()
    threading.Event().wait()

def loader(do):
    with witness.loading("loaded"):
        do()

def event_loop(do):
    witness.unmark(witness.mark("before"))
    witness.mark("looping")
    do()

threading.Thread(target=innocent, daemon=True).start()
at_work.wait()
"""


def death_of(folder: Path, end: str) -> Death:
    """A process in which a function works innocently ends so; the one death that is told."""
    (folder / "oom").write_text("low 0\noom_kill 3\n")
    ended = subprocess.run([sys.executable, "-c", LIFE + end, str(folder)], capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0, ended.stderr
    assert "Traceback" not in ended.stderr
    (death,) = last_words(folder)
    return death


@pytest.mark.parametrize(
    ("end", "words", "culprits", "suspects"),
    [
        ("worker(crash)", "Segmentation fault", ("guilty",), ()),
        ("worker(os.abort)", "Aborted", ("guilty",), ()),
        ("loader(crash)", "Segmentation fault", ("loaded",), ()),
        ("event_loop(crash)", "Segmentation fault", ("looping",), ()),
        ("crash()", "Segmentation fault", (), ("innocent",)),
        ("by_a_library()", "Aborted", ("innocent",), ()),
        ("worker(lambda: os._exit(1))", "killed, or ended without a word (os._exit)", (), ("guilty", "innocent")),
        ("worker(killed)", "killed, or ended without a word (os._exit)", (), ("guilty", "innocent")),
        ("loader(killed)", "killed, or ended without a word (os._exit)", (), ("innocent", "loaded")),
        ("worker(out_of_memory)", "out of memory", ("guilty", "innocent"), ()),
        ("loader(out_of_memory)", "out of memory", ("loaded",), ()),
    ],
)
def test_the_dead_are_told_with_their_culprits(tmp_path, end, words, culprits, suspects):
    """A crash is the crashing thread's function's, no memory is the loading one's, and what cannot be told is suspicion. The rows
    that they had at work go with them."""
    death = death_of(tmp_path, end)
    assert (death.words, death.culprits, death.suspects) == (words, culprits, suspects)
    assert "innocent" in death.running
    assert death.is_out_of_memory is (words == "out of memory")
    marks = {"innocent": {1}, "guilty": {5, 2**64 - 1}}
    assert set(death.culprit_marks) == set().union(*(marks.get(name, set()) for name in culprits))
    assert set(death.suspect_marks) == set().union(*(marks.get(name, set()) for name in suspects))


def test_a_death_is_told_until_the_owner_knows(tmp_path):
    """Reading changes nothing of what is told; after that it is not told any more."""
    death = death_of(tmp_path, "killed()")
    assert last_words(tmp_path) == [death]
    told(tmp_path, death.key)
    assert last_words(tmp_path) == []
    told(tmp_path, death.key)


def test_the_living_are_not_told_and_an_orderly_end_leaves_nothing(tmp_path):
    """Neither this process nor another that lives; a closed witness removes its files."""
    witness = Witness(tmp_path, slots=1)
    try:
        witness.begin(0, "f")
        assert last_words(tmp_path) == []
        code = "import sys; from pathlib import Path; from runtime.witness import last_words; sys.exit(len(last_words(Path(sys.argv[1]))))"
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60).returncode == 0
    finally:
        witness.close()
        witness.close()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_does_not_pass_for_its_dead_parent(tmp_path):
    """The child lives on and crashes later: the parent's death is told at once, and without that crash."""
    (tmp_path / "oom").write_text("oom_kill 3\n")
    end = """
if os.fork():
    os._exit(1)
print(flush=True)
sys.stdin.read()
crash()
"""
    with subprocess.Popen(
        [sys.executable, "-c", LIFE + end, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert parent.stdin is not None
        parent.stdout.readline()
        parent.wait(60)
        (death,) = last_words(tmp_path)
        parent.stdin.close()
        parent.stderr.read()  # the child has ended
        assert last_words(tmp_path) == [death]
    assert (death.fault, death.suspects) == ("", ("innocent",))


def test_a_process_id_that_comes_again_hides_nobody(tmp_path):
    """What a dead process of the same id left is kept beside the new files."""
    first = Witness(tmp_path, slots=1)
    second = Witness(tmp_path, slots=1)
    assert first.path != second.path
    second.close()
    first.close()


def test_other_files_are_left_alone(tmp_path):
    """What no witness wrote is no death."""
    (tmp_path / "notes.work").write_text("not a witness's")
    assert last_words(tmp_path) == []
    assert last_words(tmp_path / "nowhere") == []


A, B, C = Work("running", 1, "a"), Work("loop", 2, "b"), Work("loading", 3, "c")


@pytest.mark.parametrize(
    ("at_work", "fault", "thread", "is_out_of_memory", "culprits", "suspects"),
    [
        ((), "Aborted", 1, False, "", ""),
        ((A, B, C), "Aborted", 1, False, "a", ""),
        ((A, B, C), "Aborted", 2, False, "b", ""),
        ((A, B, C), "Aborted", 9, False, "c", ""),
        ((A, B), "Aborted", 9, False, "", "ab"),
        ((A, B, C), "Aborted", None, False, "abc", ""),
        ((A, B, C), "", None, True, "c", ""),
        ((A, B), "", None, True, "ab", ""),
        ((A, B, C), "", None, False, "", "abc"),
    ],
)
def test_verdict(at_work, fault, thread, is_out_of_memory, culprits, suspects):
    """The rules of the module, one by one."""
    found = verdict(at_work, fault, thread, is_out_of_memory=is_out_of_memory)
    assert tuple("".join(sorted(work.name for work in works)) for works in found) == (culprits, suspects)
