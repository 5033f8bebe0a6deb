"""Which bodies are taken as they are."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.graph.graph import Port
from runtime.graph.requests.raw_bodies import media_issue, raw_field_of
from runtime.types.value_types import of_annotation
from tests.problems import expect_values


def fields(**annotations: Any) -> dict[str, Port]:
    """Fields of these types; a pair is a type and a default."""
    ports = {}
    for name, each in annotations.items():
        annotation, *default = each if isinstance(each, tuple) else (each,)
        ports[name] = Port(name, of_annotation(annotation), annotation, *default)
    return ports


@pytest.mark.parametrize(
    ("taken", "field"),
    [
        (fields(image=bytes), "image"),
        (fields(image=bytes, top=(int, 5)), "image"),
        (fields(top=(int, 5), image=bytes, mask=(bytes | None, None)), "image"),
        (fields(image=bytes, name=str), None),
        (fields(one=bytes, other=bytes), None),
        (fields(image=(bytes, b"")), None),
        (fields(text=str), None),
        (fields(parts=list[bytes]), None),
        ({}, None),
    ],
)
def test_the_one_required_field_of_bytes(taken: dict[str, Port], field: str | None):
    """Nothing else may be missing from such a call; and `accepts` without such a field is a
    fault.
    """
    assert raw_field_of(taken) == field
    assert media_issue((), taken) == ""
    assert bool(media_issue(("image/png",), taken)) == (field is None)


def test_the_error_names_what_is_in_the_way():
    """With the types."""
    expect_values(
        media_issue(("image/png",), fields(image=bytes, name=str)),
        "'image' (scalar BYTES [])",
        "'name' (scalar BYTES [])",
        "defaults",
    )
    expect_values(media_issue(("image/png",), {}), "none")
