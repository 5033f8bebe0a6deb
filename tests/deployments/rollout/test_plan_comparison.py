"""What is new of each function, in a few words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deployments.control.declarations import FunctionDeclaration
from deployments.rollout.plan import PlannedApp
from deployments.rollout.plan_comparison import describe_changes


def own(name: str, **args: Any) -> PlannedApp:
    """A function with an application of its own."""
    return PlannedApp(name, "/", "deployments:function", args)


def host(name: str, **args: Any) -> PlannedApp:
    """The host's application, which lists a function."""
    listed = FunctionDeclaration(name, "/", args, is_always_own=False, version="")
    return PlannedApp("host", "/", "deployments:host", functions=(listed,))


def made_of(**digests: str) -> dict[str, Any]:
    """What `up` adds to the args of a function."""
    return {"deployed": {"made_of": digests}}


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ({"graph": 1}, {"graph": 1}, None),
        ({"graph": 1}, {"graph": 2}, "new declaration"),
        (made_of(code="a"), made_of(code="b"), "new code"),
        (made_of(models="a", weights="a"), made_of(models="b", weights="b"), "new models"),
        (
            made_of(code="a"),
            {**made_of(code="b", files="a"), "x": 1},
            "new code and files and declaration",
        ),
        ({}, made_of(code="b"), "new code"),
        ({}, {"deployed": {"part_of": "g"}}, "new declaration"),
    ],
)
def test_what_is_new_is_named(
    before: dict[str, Any], after: dict[str, Any], change: str | None
) -> None:
    """Of functions with an application of their own, and of those that the host lists."""
    expected = {} if change is None else {"f": change}
    assert describe_changes([own("f", **before)], [own("f", **after)]) == expected
    assert describe_changes([host("f", **before)], [host("f", **after)]) == expected
    assert describe_changes([own("f", **before)], [host("f", **after)]) == expected


def test_a_function_that_was_not_there_is_no_news() -> None:
    """Nor is what is no function."""
    other = PlannedApp("other", "/", "theirs:app", {"x": 1})
    assert describe_changes([other], [replace(other, args={"x": 2}), own("f", x=1)]) == {}
