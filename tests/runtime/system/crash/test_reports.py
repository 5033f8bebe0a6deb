"""What crashed a process: real processes that crash, leave or are killed while functions are at
work in them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.system.crash import CrashRecorder, CrashReport, mark_reported, read_crash_reports
from runtime.system.crash.reports import RunningWork, crash_message

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files are locked by POSIX means")

LIFE = """
import ctypes, os, signal, sys, threading
from pathlib import Path
from runtime.system.crash import CrashRecorder

folder = Path(sys.argv[1])
recorder = CrashRecorder(folder, slots=2, counters=[folder / "oom"])
at_work = threading.Barrier(2)

def other():
    recorder.begin(0, "other", [1])
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

def faulty(do):
    recorder.begin(1, "finished", [2, 3, 4])
    recorder.end(1)
    recorder.begin(1, "faulty v2", [5, 2**64 - 1])
    do()

def worker(do):
    threading.Thread(target=faulty, args=(do,)).start()
    threading.Event().wait()

def loader(do):
    with recorder.loading("loaded"):
        do()

def event_loop(do):
    recorder.unmark(recorder.mark("before"))
    recorder.mark("looping")
    do()

threading.Thread(target=other, daemon=True).start()
at_work.wait()
"""


def crash_of(folder: Path, end: str) -> CrashReport:
    """A process in which another function runs ends so; the one crash that is reported."""
    (folder / "oom").write_text("low 0\noom_kill 3\n")
    ended = subprocess.run(
        [sys.executable, "-c", LIFE + end, str(folder)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0, ended.stderr
    assert "Traceback" not in ended.stderr
    (crash,) = read_crash_reports(folder)
    return crash


@pytest.mark.parametrize(
    ("end", "words", "culprits", "suspects"),
    [
        ("worker(crash)", "Segmentation fault", ("faulty",), ()),
        ("worker(os.abort)", "Aborted", ("faulty",), ()),
        ("loader(crash)", "Segmentation fault", ("loaded",), ()),
        ("event_loop(crash)", "Segmentation fault", ("looping",), ()),
        ("crash()", "Segmentation fault", (), ("other",)),
        ("by_a_library()", "Aborted", ("other",), ()),
        (
            "worker(lambda: os._exit(1))",
            "killed, or ended without a word (os._exit)",
            (),
            ("faulty", "other"),
        ),
        (
            "worker(killed)",
            "killed, or ended without a word (os._exit)",
            (),
            ("faulty", "other"),
        ),
        (
            "loader(killed)",
            "killed, or ended without a word (os._exit)",
            (),
            ("loaded", "other"),
        ),
        ("worker(out_of_memory)", "out of memory", ("faulty", "other"), ()),
        ("loader(out_of_memory)", "out of memory", ("loaded",), ()),
    ],
)
def test_crashes_are_reported_with_their_causes(tmp_path, end, words, culprits, suspects):
    """A crash is the crashing thread's function's, no memory is the loading one's, and what cannot
    be known is suspicion. The rows that they had at work go with them."""
    crash = crash_of(tmp_path, end)
    assert (crash.words, crash.culprits, crash.suspects) == (words, culprits, suspects)
    assert "other" in crash.running
    assert crash.is_out_of_memory is (words == "out of memory")
    assert crash.versions == ({"faulty": ["v2"]} if "faulty" in (*culprits, *suspects) else {})
    marks = {"other": {1}, "faulty": {5, 2**64 - 1}}
    assert set(crash.cause_row_ids) == set().union(*(marks.get(name, set()) for name in culprits))
    assert set(crash.suspect_row_ids) == set().union(*(marks.get(name, set()) for name in suspects))


def test_a_crash_is_reported_until_the_controller_has_it(tmp_path):
    """Reading changes nothing of what is reported; once marked it is not reported again."""
    crash = crash_of(tmp_path, "killed()")
    assert read_crash_reports(tmp_path) == [crash]
    mark_reported(tmp_path, crash.key)
    assert read_crash_reports(tmp_path) == []
    mark_reported(tmp_path, crash.key)


def test_live_processes_are_not_reported_and_an_orderly_end_leaves_nothing(tmp_path):
    """Neither this process nor another that lives; a closed recorder removes its files."""
    recorder = CrashRecorder(tmp_path, slots=1)
    try:
        recorder.begin(0, "f")
        assert read_crash_reports(tmp_path) == []
        code = "import sys; from pathlib import Path; from runtime.system.crash import read_crash_reports; sys.exit(len(read_crash_reports(Path(sys.argv[1]))))"
        assert (
            subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60).returncode == 0
        )
    finally:
        recorder.close()
        recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_does_not_pass_for_its_crashed_parent(tmp_path):
    """The child lives on and crashes later: the parent's crash is reported at once, and without that
    crash.
    """
    (tmp_path / "oom").write_text("oom_kill 3\n")
    end = """
if os.fork():
    os._exit(1)
print(flush=True)
sys.stdin.read()
crash()
"""
    with subprocess.Popen(
        [sys.executable, "-c", LIFE + end, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert parent.stdin is not None
        parent.stdout.readline()
        parent.wait(60)
        (crash,) = read_crash_reports(tmp_path)
        parent.stdin.close()
        parent.stderr.read()  # the child has ended
        assert read_crash_reports(tmp_path) == [crash]
    assert (crash.fault, crash.suspects) == ("", ("other",))


def test_a_process_id_that_comes_again_hides_no_crash(tmp_path):
    """What a crashed process of the same id left is kept next to the new files."""
    first = CrashRecorder(tmp_path, slots=1)
    second = CrashRecorder(tmp_path, slots=1)
    assert first.path != second.path
    second.close()
    first.close()


def test_other_files_are_left_alone(tmp_path):
    """What no recorder wrote is no crash."""
    (tmp_path / "notes.work").write_text("not a recorder's")
    assert read_crash_reports(tmp_path) == []
    assert read_crash_reports(tmp_path / "nowhere") == []


A, B, C = (
    RunningWork("running", 1, "a"),
    RunningWork("loop", 2, "b"),
    RunningWork("loading", 3, "c"),
)


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
    found = crash_message(at_work, fault, thread, is_out_of_memory=is_out_of_memory)
    assert tuple("".join(sorted(work.name for work in works)) for works in found) == (
        culprits,
        suspects,
    )
