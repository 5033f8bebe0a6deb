"""What the tests of this folder call on a cluster, served together: an update takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.deployments.projects import HOST, Standing, function

TASKS = "tests.task_stages"
SOON = ", downscale_to_zero_delay_s: 1.0"


@pytest.fixture(scope="package")
def client(standing: Standing) -> Iterator[httpx.Client]:
    """Calls functions of tasks, and two that sleep soon: one in the host, one that has always its
    own deployment.
    """
    with standing.served(
        *HOST,
        function("vowels", f"{TASKS}:embed", least=0, more="task: embedding"),
        function("short", f"{TASKS}:shorten", least=1, more="task: embedding"),
        function("rank", f"{TASKS}:rank", least=0, more="task: rerank"),
        function("plain", f"{TASKS}:rank", least=0),
        function("resident", least=0, scaling=SOON),
        function("apart", least=0, more="tier: own", scaling=SOON),
    ) as client:
        yield client
