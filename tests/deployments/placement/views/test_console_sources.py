"""What the console is shown of a cluster, from what is reported."""

from __future__ import annotations

import pytest

from deployments.control.process_reports import HostReport, ReplicaReport
from deployments.ingress.haproxy_metrics import write_promises
from deployments.observability.status_messages import GpuShare
from deployments.placement.views.console_sources import (
    console_token,
    list_gpus,
    list_lacks,
    list_machines,
    reported_states,
)
from runtime.library.function_report import FunctionReport

NODES = [
    {"NodeID": "n2", "NodeManagerAddress": "10.0.0.2", "Resources": {"CPU": 8.0, "GPU": 2.0}},
    {"NodeID": "n1", "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 4.0}},
]
HOSTS = [
    HostReport("h1", machine="10.0.0.1", used_bytes=5, budget_bytes=10),
    HostReport("h2", machine="10.0.0.1", used_bytes=6, budget_bytes=10),
    HostReport("h3", used_bytes=7, budget_bytes=10),
]


def test_machines_have_what_is_on_them():
    """Hosts by what they say; one that does not say is on none."""
    first, second = list_machines(NODES, HOSTS, (), ())
    assert (first["id"], first["processes"], first["cpus"]) == ("n1", 2, 4.0)
    assert (first["used_bytes"], first["budget_bytes"]) == (11, 20)
    assert (second["id"], second["processes"], second["budget_bytes"]) == ("n2", 0, None)
    assert [gpu["id"] for gpu in second["gpus"]] == ["0", "1"]


def test_gpus_have_the_shares_of_their_replicas():
    """Those of other machines, and of replicas of which it is not known, are not on them."""
    shares = [GpuShare("a", 0.5, "n2/1"), GpuShare("b", 0.25, "n2/1"), GpuShare("c", 1, "n1/0")]
    gpus = list_gpus("n2", 2, [*shares, GpuShare("d", 1.0)])
    assert gpus[0]["shares"] == []
    assert gpus[1]["shares"] == [
        {"function": "a", "num_gpus": 0.5},
        {"function": "b", "num_gpus": 0.25},
    ]


def test_promises_that_are_not_kept_are_named():
    """Of each machine, with what is lost; a HAProxy of which nothing is known lacks nothing."""
    every = write_promises(set())
    lacks = list_lacks({"10.0.0.1": "", "10.0.0.2": every})
    assert {one["machine"] for one in lacks} == {"10.0.0.2"}
    cors = next(one for one in lacks if one["name"] == "cors")
    assert "other origins" in cors["lost"]


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        ({"state": "waking"}, {"state": "ready"}, True),
        ({"reason": ""}, {"reason": "full"}, True),
        ({"calls": 1}, {"calls": 2}, False),
        ({"in_flight": 1}, {"in_flight": 2}, False),
    ],
)
def test_another_state_is_told_at_once(before, after, is_told):
    """By a host and by a replica; numbers come in their time."""
    for make in (
        lambda of: HostReport("h", functions={"f": FunctionReport(**of)}),
        lambda of: ReplicaReport("r", "f", FunctionReport(**of)),
    ):
        assert (reported_states(make(before)) != reported_states(make(after))) is is_told


def test_the_token_is_the_clusters():
    """Another catalogue of it has the same, and nothing tells the secret by it."""
    assert console_token("s") == console_token("s") != console_token("t")
    assert len(console_token("s")) == 64
