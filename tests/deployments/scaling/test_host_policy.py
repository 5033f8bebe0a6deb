"""Hosts follow the machines."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deployments.placement.builders import host
from deployments.scaling.serve_policy import HostPerNodePolicy, count_machines


def node(cpus: float, alive: bool = True) -> dict:
    """A machine as Ray describes it."""
    return {"Alive": alive, "Resources": {"CPU": cpus} if cpus else {}}


@pytest.mark.parametrize(
    ("nodes", "count"),
    [
        ([node(4)], 1),
        ([node(4), node(4), node(2)], 3),
        ([node(4), node(4, alive=False)], 1),
        ([node(0), node(4)], 1),
        ([node(0)], 1),
        ([], 1),
    ],
)
def test_machines_that_can_have_a_host(nodes, count):
    """They live, and were given CPUs; there is always one host at least."""
    assert count_machines(nodes, 1.0) == count


def decided(policy: HostPerNodePolicy, target: int) -> int:
    """What the policy says, once it has counted."""
    policy(SimpleNamespace(target_num_replicas=target))
    policy._thread.join()
    return policy(SimpleNamespace(target_num_replicas=target))[0]


def test_so_many_hosts_on_each_machine():
    """As machines join and are lost."""
    nodes = [node(4), node(4)]
    policy = HostPerNodePolicy(2, 1.0, lambda: nodes)
    assert decided(policy, 2) == 4
    nodes.pop()
    policy._counted_at = float("-inf")
    assert decided(policy, 4) == 2


def test_nothing_changes_before_the_first_count_or_when_ray_does_not_answer(caplog):
    """The controller's loop never waits."""

    def fails() -> list[dict]:
        raise ConnectionError("no GCS")

    policy = HostPerNodePolicy(1, 1.0, fails)
    assert decided(policy, 3) == 3
    assert "no GCS" in caplog.text


def test_a_host_of_several_machines_is_one_a_machine():
    """And no other comes next to it while it is replaced: there are no resources for two."""
    built = host({"hosts": 1, "everywhere": True})._bound_deployment
    assert built._deployment_config.max_surge_percent == 0
    assert built._replica_config.max_replicas_per_node == 1
    assert host({"hosts": 2})._bound_deployment.num_replicas == 2
