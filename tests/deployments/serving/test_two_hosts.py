"""Two hosts on one machine."""

from __future__ import annotations

import httpx
import pytest

from tests.deployments.projects import HOST, function, state, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.full]  # on two machines: services/test_machines.py


def test_two_hosts_load_a_function_once_between_them(project):
    """It belongs to one of them, and the other passes its calls on; when its host goes, the other
    takes over.
    """
    names = [f"f{i}" for i in range(6)]
    project.more["WAKEFUL_HOSTS"] = "2"
    with project.served(*HOST, *(function(name, least=0) for name in names)) as client:
        wait_until(
            lambda: (
                [host["peers"] for host in client.get("/functions/f0").json()["hosts"]] == [2, 2]
            )
        )
        answered = {
            name: {
                httpx.post(
                    f"{project.url}/v2/models/{name}", json={"name": "x"}, timeout=30
                ).json()["pid"]
                for _ in range(8)
            }
            for name in names
        }
        assert all(len(pids) == 1 for pids in answered.values()), answered
        # hosts report a load within a second
        wait_until(lambda: all(state(client, name)["state"] == "ready" for name in names))
        assert [state(client, name)["loads"] for name in names] == [1] * len(names)
