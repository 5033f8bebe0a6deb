"""Stages that do not return, on Ray: the host and a replica serve on, and are replaced once a function
has no thread left.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from runtime.batching.health.hangs import MOST_ABANDONED
from tests.deployments.projects import HOST, Standing, function, state, wait_until

pytestmark = pytest.mark.ray

STAGES = """\
import os, time

class Hangs:
    def __call__(self, name: str) -> dict[str, str]:
        while name == "hang":
            time.sleep(0.01)
        return {"said": name, "pid": str(os.getpid())}
"""

LIMITS = "limits: {request_timeout_s: 1}"

PATIENT = "limits: {request_timeout_s: 5}"
"""A call that does not hang has this time too, on a busy machine and for a wake."""


def call(client: httpx.Client, function: str, name: str) -> httpx.Response:
    """A call."""
    return client.post(f"/v2/models/{function}", json={"name": name})


SPLIT = f"""\
  - name: hangs-split
    route_prefix: /v2/models/hangs-split
    import_path: deployments:function
    args:
      graph: [{{stage: s, python: "hangs_of_a_test:Hangs", deployment: {{min_replicas: 1}}}}]
      {PATIENT}
"""


@pytest.mark.full
def test_the_next_call_is_answered_by_the_same_process(standing: Standing) -> None:
    """In the host beside others, in a deployment of its own, and in that of a stage which is split
    off; `status` says so.
    """
    (standing.folder / "hangs_of_a_test.py").write_text(STAGES)
    hosted = function("hangs-hosted", "hangs_of_a_test:Hangs", least=0, more=PATIENT)
    own = function("hangs-own", "hangs_of_a_test:Hangs", more=PATIENT)
    processes = {
        "hangs-hosted": "hangs-hosted",
        "hangs-own": "hangs-own",
        "hangs-split": "hangs-split.s",
    }
    with standing.served(*HOST, hosted, own, SPLIT, function("other", least=0)) as client:
        wait_until(lambda: all(call(client, name, "x").status_code == 200 for name in processes))
        pids = {name: call(client, name, "x").json()["pid"] for name in processes}
        with ThreadPoolExecutor(len(processes)) as pool:
            hanging = [pool.submit(call, client, name, "hang") for name in processes]
            while not all(one.done() for one in hanging):
                assert call(client, "other", "y").json()["said"] == "y"
                time.sleep(0.1)
        for hung in (one.result() for one in hanging):
            assert (hung.status_code, hung.json()["code"]) == (504, "deadline_exceeded")
            assert "'s'" in hung.json()["error"]
        for name, process in processes.items():
            began = time.monotonic()
            answer = call(client, name, "z")
            print(f"{name}: the next call after {time.monotonic() - began:.3f} s")
            assert (answer.status_code, answer.json()["pid"]) == (200, pids[name])
            wait_until(lambda process=process: "not returned" in state(client, process)["reason"])
            assert state(client, process)["state"] == "ready"


@pytest.mark.full
def test_a_host_whose_function_hangs_again_and_again_is_replaced(standing: Standing) -> None:
    """So many threads are left behind, and the next one hangs for half a minute: another host takes
    its place, and the neighbours are answered all the while. The function is said to have brought it
    down.
    """
    (standing.folder / "hangs_again_of_a_test.py").write_text(STAGES)
    hangs = function("hangs-again", "hangs_again_of_a_test:Hangs", least=0, more=LIMITS)
    with standing.served(*HOST, hangs, function("beside", least=0)) as client:
        pid = call(client, "beside", "x").json()["pid"]
        for _ in range(MOST_ABANDONED + 1):
            assert call(client, "hangs-again", "hang").status_code == 504
            call(client, "hangs-again", "x")

        def is_replaced() -> bool:
            answer = call(client, "beside", "y")
            assert answer.status_code == 200
            return bool(answer.json()["pid"] != pid)

        wait_until(is_replaced)
        wait_until(lambda: call(client, "hangs-again", "z").status_code == 200)

        def is_blamed() -> bool:
            decisions = client.get("/functions/hangs-again").json()["decisions"]
            return any("does not return" in one["why"] for one in decisions)

        wait_until(is_blamed)
