from typing import Any, Literal

import numpy as np
import pytest

from runtime.types.conditions import Condition, is_exhaustive, parse_condition
from runtime.types.value_types import ANY, of_annotation


@pytest.mark.parametrize(
    ("when", "values", "holds"),
    [
        ("long", {"long": True}, True),
        ("long", {"long": False}, False),
        ("not long", {"long": False}, True),
        ("not long", {"long": True}, False),
        ({"kind": "text"}, {"kind": "text"}, True),
        ({"kind": "text"}, {"kind": "image"}, False),
        ({"kind": ["text", "html"]}, {"kind": "html"}, True),
        ({"count": 1}, {"count": True}, False),
        ({"count": [0, 1]}, {"count": 1}, True),
        ({"count": [0, 1]}, {"count": np.int64(1)}, True),
        ({"count": 1}, {"count": np.argmax([3, 4])}, True),
        ({"count": 1}, {"count": np.bool_(True)}, False),
        ({"flag": True}, {"flag": np.bool_(True)}, True),
        ({"kind": "text"}, {"kind": np.str_("text")}, True),
        ({"share": 0.5}, {"share": np.float32(0.5)}, True),
        ({"share": 1.0}, {"share": 1}, True),
        ({"share": 1.0}, {"share": True}, False),
        ({"count": 1}, {"count": 1.0}, False),
        ({"count": 1}, {"count": np.array(1)}, True),
        ({"count": 1}, {"count": None}, False),
        ("flag", {"flag": np.bool_(True)}, True),
        ("not flag", {"flag": np.bool_(True)}, False),
    ],
)
def test_a_condition_holds_for_some_rows(when: Any, values: dict[str, Any], holds: bool) -> None:
    """What was written decides by a row's values, and true is no 1."""
    assert parse_condition(when).holds(values) is holds


@pytest.mark.parametrize(
    ("when", "annotation", "why"),
    [
        ("x", bool, ""),
        ("x", Any, ""),
        ("x", str, "a bool is wanted"),
        ({"x": "a"}, str, ""),
        ({"x": 1}, str, "1 is int"),
        ({"x": "a"}, Literal["a", "b"], ""),
        ({"x": ["a", "c"]}, Literal["a", "b"], "never 'c'"),
        ({"x": "a"}, list[str], "'a' is str"),
        ({"x": "a"}, bytes, "it is bytes, and 'a' is str"),
        ({"x": 1}, Literal[True, False], "never 1"),
        ({"x": True}, Literal[1, 2], "never True"),
    ],
)
def test_a_condition_fits_the_type_of_its_value(when: Any, annotation: Any, why: str) -> None:
    """What can never hold is refused before anything starts."""
    found = parse_condition(when).misfit(ANY if annotation is Any else of_annotation(annotation))
    assert why in found
    assert bool(found) is bool(why)


@pytest.mark.parametrize(
    ("conditions", "annotation", "all_rows"),
    [
        ([Condition("x"), Condition("x", negated=True)], bool, True),
        ([Condition("x"), Condition("y", negated=True)], bool, False),
        ([Condition("x", ("a",)), Condition("x", ("b",))], Literal["a", "b"], True),
        ([Condition("x", ("a",)), Condition("x", ("b",))], str, False),
        ([Condition("x", ("a",))], Literal["a", "b"], False),
        ([Condition("x", ("a",)), Condition("x", ("b",))], Literal["a", "b"] | None, False),
        ([Condition("x", (1,)), Condition("x", (0,))], Literal[True, False], False),
    ],
)
def test_branches_that_leave_no_row_out(
    conditions: list[Condition], annotation: Any, all_rows: bool
) -> None:
    """Both of a bool, or every option of a Literal."""
    assert is_exhaustive(conditions, {"x": of_annotation(annotation)}) is all_rows
