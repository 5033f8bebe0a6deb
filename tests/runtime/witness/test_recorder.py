"""What a process is at, as it stands in the file while it lives."""

from __future__ import annotations

from runtime.witness import Witness
from runtime.witness.recorder import MARKS


def test_who_is_at_work_is_seen(tmp_path):
    """Workers, loads and work on the event loop begin and end by themselves; a long name is cut, too many rows as well, not refused."""
    witness = Witness(tmp_path, slots=2)
    try:
        witness.begin(1, "embed")
        mark = witness.mark("wait")
        with witness.loading("n" * 200):
            assert repr(witness).endswith(f"embed, {'n' * 200}, wait>")
        witness.begin(0, "forecast", [2**63] * 1000)
        witness.end(1)
        witness.unmark(mark)
        assert repr(witness).endswith(": forecast>")
    finally:
        witness.close()
    assert repr(witness).endswith("nobody at work>")


def test_more_marks_than_there_are_go_unrecorded(tmp_path):
    """Nobody waits for a mark, and those that end are used again."""
    witness = Witness(tmp_path, slots=1)
    try:
        marks = [witness.mark(str(n)) for n in range(MARKS + 1)]
        assert marks[-1] is None
        for mark in marks:
            witness.unmark(mark)
        assert witness.mark("again") is not None
    finally:
        witness.close()
