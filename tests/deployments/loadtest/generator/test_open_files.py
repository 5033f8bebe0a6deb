"""A process that sends has as many connections as it may, and is asked for no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deployments.loadtest.generator.open_files import SPARE
from deployments.loadtest.preparation import count_connections
from deployments.loadtest.refusal import LoadTestRefused
from tests.problems import expect_values

SCRIPT = """
import resource
from deployments.loadtest.generator.open_files import allow_files, most_connections
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
print(most_connections())
allow_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_what_a_shell_allows_at_first_is_no_limit():
    """What it may ever allow is."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(256 - SPARE), "256", "256"]


@pytest.mark.parametrize(
    ("wanted", "most", "count"), [(None, 20_000, 1000), (None, 200, 200), (300, 300, 300)]
)
def test_connections_of_a_process(wanted: int | None, most: int, count: int):
    """As many as are usual, as there may be, or as are asked for."""
    assert count_connections(wanted, most) == count


def test_more_connections_than_there_may_be():
    """Are refused before the load, and not told as refusals of the server during it."""
    with pytest.raises(LoadTestRefused) as refused:
        count_connections(2000, 960)
    assert refused.value.where == "--connections"
    expect_values(refused.value.message, "2,000", "960", "--processes")
