"""What a process runs, as its file has it while it lives."""

from __future__ import annotations

from runtime.system.crash import CrashRecorder
from runtime.system.crash.recorder import MARKS


def test_what_runs_is_in_the_file(tmp_path):
    """Workers, loads and work on the event loop begin and end by themselves; a long name is cut,
    too many rows as well, not refused.
    """
    recorder = CrashRecorder(tmp_path, slots=2)
    try:
        recorder.begin(1, "embed")
        mark = recorder.mark("wait")
        with recorder.loading("n" * 200):
            assert repr(recorder).endswith(f"embed, {'n' * 200}, wait>")
        recorder.begin(0, "forecast", [2**63] * 1000)
        recorder.end(1)
        recorder.unmark(mark)
        assert repr(recorder).endswith(": forecast>")
    finally:
        recorder.close()
    assert repr(recorder).endswith("idle>")


def test_more_marks_than_there_are_go_unrecorded(tmp_path):
    """No thread waits for a slot, and those that are free are used again."""
    recorder = CrashRecorder(tmp_path, slots=1)
    try:
        marks = [recorder.mark(str(n)) for n in range(MARKS + 1)]
        assert marks[-1] is None
        for mark in marks:
            recorder.unmark(mark)
        assert recorder.mark("again") is not None
    finally:
        recorder.close()
