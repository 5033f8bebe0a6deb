"""Random graphs of Python stages, models and called functions answer as their plain evaluation does,
over JSON and over v2; ``python -m tests.graphs.random`` runs any number of them.
"""

from __future__ import annotations

import random

import pytest

from tests.graphs.made import a_row, make
from tests.graphs.plain import evaluate
from tests.graphs.random import Counts, quietly


def test_a_dozen_graphs_answer_as_they_are_evaluated() -> None:
    """Alone and with batch-mates; all resources are released."""
    counts = Counts()
    quietly(range(1, 13), counts)
    assert counts["graphs"] == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "count",
    [40, pytest.param(3000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])],
)
def test_many_graphs_answer_as_they_are_evaluated(count: int) -> None:
    """Every form of stage is among them, functions called in the process and over a wire, and rows
    that fail, are late, or whose callers leave. Their stages change all lists and dicts that they
    take.
    """
    counts = Counts()
    quietly(range(1000, 1000 + count), counts)
    assert counts["graphs"] == count
    forms = {
        f"{form} stages"
        for form in ("plain", "class", "async", "rows", "function", "model", "stream")
    }
    keys = {f"stages with {key}" for key in ("each", "when", "deployment")}
    ways = {f"by {way}" for way in ("library", "process", "wire")}
    ends = {
        "rows answered",
        "rows answered over v2",
        "rows refused or failed",
        "rows late",
        "rows streamed",
        "callers left",
    }
    assert forms | keys | ways | ends <= set(counts)


def test_a_seed_is_one_graph() -> None:
    """With the same rows and the same answers, so that what differs is found again."""
    one, two = make(7, 5), make(7, 5)
    assert str(one) == str(two)
    row = a_row(random.Random(1), one.functions[0])
    assert row == a_row(random.Random(1), two.functions[0])
    assert str(evaluate(one, row)) == str(evaluate(two, row))
