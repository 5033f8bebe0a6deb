"""No random model that company moves is served, and hardly one that it does not is refused."""

from __future__ import annotations

import pytest

from tests.company.made import make
from tests.company.random_models import examine, refusal_of


@pytest.mark.slow
def test_some_random_models():
    """Seeds that no one has tuned anything to; more: `python -m tests.company.random_models`."""
    tally = examine(range(500_000, 500_025))
    assert tally.moving > 5
    assert tally.still > 5
    assert not tally.served, str(tally)


@pytest.mark.parametrize("seed", [581, 798, 1234, 1491])
def test_padding_that_moves_few_rows_is_searched_for(tmp_path, seed):
    """Their rows at hand, of other lengths and ranges, answer the same with it."""
    made = make(seed)
    path = tmp_path / "m.onnx"
    path.write_bytes(made.model)
    assert made.pad
    assert "of lengths that differ" in refusal_of(made, path)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.timeout(3600)
def test_two_thousand_random_models():
    """Of those that hold, one in a hundred may be refused."""
    tally = examine(range(2000))
    assert not tally.served, str(tally)
    assert len(tally.refused) <= tally.still / 100, str(tally)
