"""Every mistake of docs/first-hour.md is answered with its file, its line and what to write."""

from __future__ import annotations

import pytest

from tests import first_hour


def test_the_project_without_a_mistake_is_right() -> None:
    """Nothing is said of it, and a call is answered."""
    assert first_hour.message_of(None) == ""
    with first_hour.project(None), first_hour.serve(first_hour.CONFIG) as app:
        assert app.sentiment(text="good, fine")["label"] == "good"


def test_there_are_twenty_at_least() -> None:
    """Each another one."""
    assert len({mistake.title for mistake in first_hour.MISTAKES}) >= 20


@pytest.mark.parametrize("mistake", first_hour.MISTAKES, ids=lambda mistake: mistake.title)
def test_a_mistake_is_named_with_its_place_and_the_fix(mistake: first_hour.Mistake) -> None:
    """By `wakeful check`, or by the log where only a call shows it."""
    message = first_hour.message_of(mistake)
    assert mistake.place in message
    assert mistake.fix in message
    assert mistake.fix
