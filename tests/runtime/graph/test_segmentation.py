"""Where a graph is cut, and what gathers rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.declaration.function_spec import BatchingSpec
from runtime.graph.segmentation import StageKind, batch_limits_of, group_stages
from runtime.types.conditions import parse_condition


def kinds(words: str) -> list[StageKind]:
    """`row rows model …`; `model~` is ragged, `row+` has threads, `rows@x` is for the elements of
    `x`.
    """
    found = []
    for word in words.split():
        what, _, each = word.rstrip("~+").replace("_", " ").partition("@")
        kind = StageKind(what, each or None, is_ragged=word.endswith("~"))  # type: ignore[arg-type]
        found.append(replace(kind, threads=4 * word.endswith("+")))
    return found


@pytest.mark.parametrize(
    ("graph", "groups"),
    [
        ("rows model~ row", [[0], [1, 2]]),
        ("row row rows", [[0, 1], [2]]),
        ("rows row rows", [[0, 1, 2]]),
        ("row model rows row", [[0], [1, 2, 3]]),
        ("row model~ rows row", [[0], [1], [2, 3]]),
        ("row runs rows", [[0], [1], [2]]),
        ("row runs row", [[0], [1, 2]]),
        ("model model", [[0], [1]]),
        ("row model@x rows", [[0], [1], [2]]),
        ("rows@x rows@x rows", [[0, 1], [2]]),
        ("row coroutine coroutine row", [[0], [1, 2], [3]]),
        ("row row+ row", [[0], [1], [2]]),
        ("rows+ rows+ row", [[0], [1], [2]]),
        ("rows coroutine rows function function", [[0], [1], [2], [3], [4]]),
        ("row stream", [[0], [1]]),
        ("coroutine coroutine_stream", [[0], [1]]),
    ],
)
def test_a_stage_begins_a_segment_where_rows_should_be_gathered_again(graph, groups):
    """Models do; stages that take all rows do unless the segment has gathered as many as they may
    get; others follow.
    """
    assert group_stages(kinds(graph)) == groups


def test_a_stage_whose_condition_is_given_by_its_segment_begins_another():
    """A segment decides once whether it is for a row."""
    when = parse_condition("b")
    given = [
        StageKind("row", when=when, gives=frozenset("a")),
        StageKind("row", when=when, gives=frozenset("b")),
        StageKind("row", when=when),
    ]
    assert group_stages(given) == [[0, 1], [2]]


def test_rows_that_have_waited_do_not_wait_again():
    """And new rows of a Python stage go before a model that is not full."""
    declared = BatchingSpec(max_batch_size=7, batch_wait_timeout_s=0.5)
    assert [
        batch_limits_of(declared, waits=waits, is_model=True).batch_wait_timeout_s
        for waits in (True, False)
    ] == [0.5, 0.0]
    assert [
        batch_limits_of(declared, waits=True, is_model=is_model).before_models
        for is_model in (True, False)
    ] == [False, True]
