"""Functions promoted, demoted, updated, taken down and declared again, while the placement
controller, the host and Serve's controller are killed: in random orders, in a small simulated
cluster (``simulated``). What runs equals what is declared in the end.
"""

from __future__ import annotations

import pytest

from tests.deployments.placement.stories import Story


def run_stories(seeds: range) -> dict[int, list[str]]:
    """What is wrong in the end of each story, where something is."""
    return {seed: wrong for seed in seeds if (wrong := Story(seed).run())}


def test_what_runs_equals_what_is_declared_in_the_end():
    """A few stories; 500 are run below."""
    assert run_stories(range(6)) == {}


@pytest.mark.slow
def test_what_runs_equals_what_is_declared_in_the_end_of_30_stories():
    """As below, of the first of them."""
    assert run_stories(range(6, 30)) == {}


@pytest.mark.full
def test_what_runs_equals_what_is_declared_in_the_end_of_500_stories():
    """Nothing undeclared is deployed, each function is answered in one place and by its last
    version, none that was repaired is quarantined, and applications of others are as they were.
    """
    assert run_stories(range(500)) == {}
