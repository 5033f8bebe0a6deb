"""Ready means ready, in a real replica: one whose session is broken is replaced, and no one has to
tell Ray.
"""

from __future__ import annotations

import httpx
import pytest

from runtime.batching.health.failure_detector import FAILING
from tests.deployments.projects import Standing, wait_until

pytestmark = pytest.mark.ray


@pytest.mark.full
def test_a_replica_with_a_broken_session_is_replaced(up: Standing) -> None:
    """Poisoned calls leave it where it is; once its own example fails too, another process answers,
    and then it is as before.
    """
    with httpx.Client(base_url=up.url, timeout=30) as client:

        def say(name: str) -> httpx.Response:
            return client.post("/v2/models/breaks", json={"name": name})

        pid = say("x").json()["pid"]
        assert [say("poison").status_code for _ in range(3 * FAILING)] == [500] * 3 * FAILING
        assert say("x").json()["pid"] == pid
        for _ in range(FAILING):
            say("break")

        def is_replaced() -> bool:
            answer = say("x")
            return answer.status_code == 200 and answer.json()["pid"] != pid

        wait_until(is_replaced)
        assert say("y").json()["said"] == "y"
