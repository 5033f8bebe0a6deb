"""Which functions a run does not serve, since they made the runs before it end."""

from __future__ import annotations

import pytest

from deployments.local.hang_records import KEPT_S, MOST_ENDS, HangRecords, is_refused


@pytest.mark.parametrize(
    ("ends", "now", "expected"),
    [
        ([], 0.0, False),
        ([1.0] * (MOST_ENDS - 1), 2.0, False),
        ([1.0] * MOST_ENDS, 2.0, True),
        ([1.0, *[KEPT_S + 2] * (MOST_ENDS - 1)], KEPT_S + 2, False),
        ([10.0] * MOST_ENDS, 2.0, False),  # the clock was set back
    ],
)
def test_a_function_that_ends_process_after_process_is_refused(ends, now, expected):
    """As many within an hour as Ray quarantines a function for."""
    assert is_refused(ends, now) is expected


def test_what_is_recorded_is_found_by_the_next_run(tmp_path):
    """By the function's version: another one is served."""
    path = tmp_path / "hangs.json"
    for at in range(MOST_ENDS):
        assert HangRecords(path).refused({"f": "f v1"}, 100.0) == {}
        HangRecords(path).record("f v1", float(at))
    records = HangRecords(path)
    assert list(records.refused({"f": "f v1", "g": "g v1"}, 100.0)) == ["f"]
    assert records.refused({"f": "f v2"}, 100.0) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"f v1": 3}', '{"f v1": []}', "\0"])
def test_a_file_that_says_nothing_refuses_nothing(tmp_path, content):
    """It is written anew."""
    path = tmp_path / "hangs.json"
    path.write_text(content)
    records = HangRecords(path)
    assert records.refused({"f": "f v1"}, 1.0) == {}
    records.record("f v1", 1.0)
    assert "f v1" in path.read_text()


def test_no_more_are_kept_than_count(tmp_path):
    """However many functions there were, and ends."""
    path = tmp_path / "hangs.json"
    for at in range(300):
        HangRecords(path).record(f"f{at} v", float(at))
        HangRecords(path).record("f v", float(at))
    assert len(path.read_text()) < 10_000


def test_without_a_folder_nothing_is_kept():
    """The run serves all the same."""
    records = HangRecords(None)
    records.record("f v", 1.0)
    assert records.refused({"f": "f v"}, 1.0) == {}
