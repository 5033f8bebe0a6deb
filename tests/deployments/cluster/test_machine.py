"""The environment of every machine of a cluster."""

from __future__ import annotations

import pytest

from deployments.cluster.machine import cluster_variables
from deployments.ray_support.deadlines import proxy_patience
from deployments.ray_support.environment import HARD_STOP, SidePorts, to_mapping
from deployments.ray_support.state_dir import ClusterState, StateDir


@pytest.mark.parametrize(("hard_stop_s", "keep_alive_s"), [(210, 90), (305, 90), (3605, 1)])
def test_haproxy_waits_for_late_calls_and_its_manager_for_those_under_way(
    hard_stop_s, keep_alive_s
):
    """Of a machine that ends, no idle connection is waited for."""
    up = ClusterState(
        *("own", "", "127.0.0.1", 8000, "f.yaml", "/r", "/m"),
        ports=SidePorts(1, 2, 3, 4),
        hard_stop_s=hard_stop_s,
        keep_alive_s=keep_alive_s,
    )
    variables = to_mapping(cluster_variables(up, StateDir()))
    assert variables[HARD_STOP] == str(hard_stop_s)
    patience = proxy_patience(hard_stop_s - keep_alive_s)
    assert variables[patience.name] == patience.value
