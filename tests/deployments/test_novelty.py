"""What is new of each function, in a few words."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.novelty import news


def own(name: str, **args: Any) -> dict[str, Any]:
    """A function with an application of its own."""
    return {"name": name, "import_path": "deployments:function", "args": args}


def host(*functions: dict[str, Any]) -> dict[str, Any]:
    """The host's application, which is told of functions."""
    return {"name": "host", "import_path": "deployments:host", "args": {"functions": list(functions)}}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"graph": 1}, {"graph": 1}, None),
        ({"graph": 1}, {"graph": 2}, "new declaration"),
        ({"made_of": {"code": "a"}}, {"made_of": {"code": "b"}}, "new code"),
        ({"made_of": {"models": "a", "weights": "a"}}, {"made_of": {"models": "b", "weights": "b"}}, "new models"),
        ({"made_of": {"code": "a"}}, {"made_of": {"code": "b", "files": "a"}, "x": 1}, "new code and files and declaration"),
        ({}, {"made_of": {"code": "b"}}, "new code"),
    ],
)
def test_it_is_said_what_is_new(before: dict[str, Any], after: dict[str, Any], said: str | None) -> None:
    """Of functions with an application of their own, and of those that the host is told of."""
    expected = {} if said is None else {"f": said}
    assert news([own("f", **before)], [own("f", **after)]) == expected
    assert news([host({"name": "f", "args": before})], [host({"name": "f", "args": after})]) == expected
    assert news([own("f", **before)], [host({"name": "f", "args": after})]) == expected


def test_a_function_that_was_not_there_is_no_news() -> None:
    """Nor is what is no function."""
    other = {"name": "other", "import_path": "theirs:app", "args": {"x": 1}}
    assert news([other], [{**other, "args": {"x": 2}}, own("f", x=1)]) == {}
