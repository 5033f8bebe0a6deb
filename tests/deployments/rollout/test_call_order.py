"""In which order an update starts what changes."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.rollout.call_order import needs_of


def declared(**calls: dict[str, Any]) -> dict[str, Any]:
    """Functions, and what each knows of those that it calls."""
    return {name: {"deployed": {"calls": known}} for name, known in calls.items()}


@pytest.mark.parametrize(
    ("known", "needed"),
    [
        ({"takes": {}, "gives": {}}, []),  # either version of it will do
        ({"takes": {"text": {}}, "gives": {}}, ["embed"]),
        ({"takes": {}, "gives": {}, "at_load": True}, ["embed"]),
    ],
)
def test_what_a_function_is_built_with_starts_before_it(known, needed):
    """As what it knows other fields of; what it only calls need not."""
    former = declared(search={"embed": {"takes": {}, "gives": {}}}, embed={})
    wanted = declared(search={"embed": known}, embed={})
    assert needs_of(wanted, former, {"search", "embed"}) == {"search": needed, "embed": []}
