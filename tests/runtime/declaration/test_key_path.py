from __future__ import annotations

import pytest

from runtime.declaration.validation import KeyPath, format_path, parent_path


@pytest.mark.parametrize(
    ("loc", "text"),
    [
        ((), ""),
        (("applications", 0, "args", "graph", 1, "onnx"), "applications[0].args.graph[1].onnx"),
        (("env", "A.B"), "env['A.B']"),
        (("env", ""), "env['']"),
        ((3, "a-b"), "[3].a-b"),
    ],
)
def test_steps_have_one_spelling(loc: KeyPath, text: str) -> None:
    """Keys with dots, list positions with brackets, everything odd in quotes."""
    assert format_path(loc) == text


def test_a_place_has_its_parent() -> None:
    """Step by step up to the whole file."""
    places = ["applications[0].args['A.B'].x"]
    while places[-1]:
        places.append(parent_path(places[-1]))
    assert places[1:] == [
        "applications[0].args['A.B']",
        "applications[0].args",
        "applications[0]",
        "applications",
        "",
    ]
