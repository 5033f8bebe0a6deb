"""Stages that call functions, on Ray: from the host to a replica and back, in a chain of functions
that each wait for the next one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.deployments.projects import Standing

pytestmark = pytest.mark.ray


def test_functions_that_wait_for_each_other_answer_wherever_they_are(up: Standing) -> None:
    """The host, a replica, the host again; an index that is built with all of them, in a replica of
    its own; what a called function refuses is refused.
    """
    with httpx.Client(base_url=up.url, timeout=30) as client:

        def ask(n: int) -> tuple[int, int]:
            top = client.post("/v2/models/call_top", json={"n": n}).json()
            assert len(set(top["pids"])) == 2, top  # there and back
            built = client.post("/v2/models/call_built", json={"n": n}).json()
            assert built["s"][:3] == [3, 4, 5]
            return top["n"], built["s"][3]

        with ThreadPoolExecutor(16) as threads:
            assert list(threads.map(ask, range(64))) == [(n + 3, n + 3) for n in range(64)]
        refused = client.post("/v2/models/call_top", json={"n": -1})
        assert (refused.status_code, refused.json()["where"]) == (422, "n")
        assert client.post("/v2/models/call_built", json={"n": -1}).json() == {"s": [422]}
