"""uvicorn is as it is taken to be: one test for each thing that is taken for granted."""

from __future__ import annotations

import pytest

from runtime.http.transport.contract import ASSUMPTIONS
from runtime.system.assumptions import Assumption


@pytest.mark.parametrize("assumption", ASSUMPTIONS, ids=lambda one: one.name)
def test_uvicorn_is_as_it_is_taken_to_be(assumption: Assumption) -> None:
    """The installed release; a sentence says what of it is otherwise."""
    assert not assumption.fault()


def test_each_is_named_once_with_its_reason() -> None:
    """A log line says the name alone."""
    names = [one.name for one in ASSUMPTIONS]
    assert len(set(names)) == len(names)
    assert all(one.reason.endswith(".") for one in ASSUMPTIONS)
