"""docs/python-api.md is true: every name that `wakeful` exports has an example, and it is a stage."""

from __future__ import annotations

import inspect

import pytest

import wakeful
from runtime.graph.python_stages.signature import read_signature
from tests.python_page import EXAMPLES, IMPORTS


def test_every_name_has_an_example() -> None:
    """And no other has."""
    assert set(EXAMPLES) == set(wakeful.__all__)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_stage(name: str) -> None:
    """Its signature is read as `check` reads it."""
    made: dict[str, object] = {"__name__": "example"}
    exec(compile(IMPORTS + EXAMPLES[name], "example.py", "exec"), made)
    before = dir(wakeful)
    functions = [
        value
        for key, value in made.items()
        if inspect.isfunction(value) and key not in before and value.__module__ == "example"
    ]
    assert functions
    for function in functions:
        assert read_signature(function).gives
