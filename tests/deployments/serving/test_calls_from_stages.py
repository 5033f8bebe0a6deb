"""Stages that call functions, on Ray: from the host to a replica and back, in a chain of functions
that each wait for the next one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.deployments.projects import Standing

pytestmark = pytest.mark.ray

STAGES = """\
import os
from typing import TypedDict

from wakeful import Call, CallError, RequestError


class Said(TypedDict):
    n: int
    pids: list[int]


def leaf(n: int) -> Said:
    if n < 0:
        raise RequestError("it is negative.", where="n", status=422)
    return {"n": n + 1, "pids": [os.getpid()]}


def middle(n: int, next: Call["call_leaf"]) -> Said:
    found = next(n=n)
    return {"n": found["n"] + 1, "pids": [os.getpid(), *found["pids"]]}


async def top(n: int, next: Call["call_middle"]) -> Said:
    found = await next(n=n)
    return {"n": found["n"] + 1, "pids": [os.getpid(), *found["pids"]]}


class Built:
    def __init__(self, next: Call["call_top"]) -> None:
        self.base = [one["n"] for one in next.rows([{"n": n} for n in range(3)])]
        self.next = next

    def __call__(self, n: int) -> list[int]:
        try:
            return [*self.base, self.next(n=n)["n"]]
        except CallError as error:
            return [error.status]
"""


def function(name: str, stage: str, more: str = "") -> str:
    """Its entry in the file."""
    return f"""\
  - name: {name}
    args:
      graph: [{{stage: s, python: "calls_of_a_test:{stage}"}}]
      limits: {{request_timeout_s: 20}}
      {more}
"""


def test_functions_that_wait_for_each_other_answer_wherever_they_are(standing: Standing) -> None:
    """The host, a replica, the host again; an index that is built with all of them, in a replica of
    its own; what a called function refuses is refused.
    """
    (standing.folder / "calls_of_a_test.py").write_text(STAGES)
    own = "tier: own\n      autoscaling: {min_replicas: 1, max_replicas: 1}"
    with standing.served(
        function("call_leaf", "leaf"),
        function("call_middle", "middle", own),
        function("call_top", "top"),
        function("call_built", "Built", own),
    ) as client:

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
