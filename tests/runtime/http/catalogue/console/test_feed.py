"""When the console looks."""

from __future__ import annotations

import pytest

from runtime.http.catalogue.console.feed import next_look_s


@pytest.mark.parametrize(
    ("now", "looked_at", "counted_at", "is_dirty", "has_streams", "wait_s"),
    [
        (1003.0, 0.0, 1000.0, False, False, 7.0),
        (1003.0, 0.0, 1000.0, True, False, 7.0),
        (1010.0, 0.0, 1000.0, False, False, 0.0),
        (1012.0, 0.0, 1000.0, False, False, 0.0),
        (1000.4, 1000.0, 1000.0, False, True, 0.6),
        (1000.1, 1000.0, 1000.0, True, True, 0.15),
        (1000.3, 1000.0, 1000.0, True, True, 0.0),
        (1004.9, 1004.5, 1000.0, False, True, 0.1),
        (990.0, 1000.0, 1000.0, False, True, 0.0),
    ],
)
def test_when_there_is_something_to_do(now, looked_at, counted_at, is_dirty, has_streams, wait_s):
    """The history each ten seconds; for pages, samples each five, a look each second, and one soon
    after a change. A clock that was set back is noticed.
    """
    found = next_look_s(
        now,
        looked_at=looked_at,
        counted_at=counted_at,
        poll_s=1.0,
        is_dirty=is_dirty,
        has_streams=has_streams,
    )
    assert found == pytest.approx(wait_s)
