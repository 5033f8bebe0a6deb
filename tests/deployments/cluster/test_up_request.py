"""What a running cluster cannot take, in words; no Ray is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deployments.cluster.up_request import (
    DriverRequest,
    refuse_longer_timeouts,
    refuse_move,
    refuse_update,
)
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.state_dir import ClusterState
from deployments.rollout.plan import Plan, PlannedApp
from runtime.settings import Settings

UP = ClusterState("own", "127.0.0.1:6379", "127.0.0.1", 8000, "f.yaml", "/here", "/models")
NODE = replace(UP, kind="node", host="0.0.0.0", address="10.0.0.1:6379")
REQUEST = DriverRequest(
    Plan("127.0.0.1", 8000, {}, (), ()),
    Settings(root=Path("/here"), models=Path("/models")),
    "f.yaml",
)


def test_the_same_again_is_an_update():
    """Nothing is refused."""
    refuse_update(UP, REQUEST)


@pytest.mark.parametrize(
    ("host", "port", "typed"),
    [
        ("127.0.0.1", 9000, "`wakeful up --port 8000`"),
        ("0.0.0.0", 8000, "`wakeful up --host 127.0.0.1`"),
        ("0.0.0.0", 9000, "`wakeful up --host 127.0.0.1 --port 8000`"),
    ],
)
def test_what_is_up_elsewhere_is_updated_there(host, port, typed):
    """By what is said first; to take it down is a second thought."""
    refuse_move(UP, "127.0.0.1", 8000)
    with pytest.raises(RayError) as refused:
        refuse_move(UP, host, port)
    assert typed in refused.value.message
    assert refused.value.message.index(typed) < refused.value.message.index("`wakeful down`")


@pytest.mark.parametrize(
    ("kind", "hard_stop_s", "keep_alive_s", "most"),
    [
        ("own", 210, 90, 115),
        ("own", 125, 5, 115),
        ("own", 395, 90, 300),
        ("own", 735, 620, 115),
        ("joined", 120, 90, 115),
        ("joined", 210, 90, 115),
        ("joined", 401, 90, 306),
    ],
)
def test_a_deadline_that_a_haproxy_which_is_replaced_would_cut_is_refused(
    kind, hard_stop_s, keep_alive_s, most
):
    """That of a call that an idle connection has as late as may be, too."""
    up = replace(UP, kind=kind, hard_stop_s=hard_stop_s, keep_alive_s=keep_alive_s)
    for longer in (0, 1):
        limits = {"request_timeout_s": most + longer}
        app = PlannedApp("f", "/f", "deployments:function", {"limits": limits})
        plan = Plan("127.0.0.1", 8000, {}, (app,), ())
        if not longer:
            refuse_longer_timeouts(up, plan)
            continue
        with pytest.raises(RayError, match=f"of f is above {most} s"):
            refuse_longer_timeouts(up, plan)


@pytest.mark.parametrize(
    ("up", "changes", "said"),
    [
        (UP, {"plan": Plan("127.0.0.1", 8001, {}, (), ())}, "it cannot move to 127.0.0.1:8001."),
        (UP, {"settings": Settings(Path("/there"), Path("/models"))}, "Set WAKEFUL_ROOT=/here"),
        (UP, {"address": "10.0.0.9:6379"}, "already up on the cluster at 127.0.0.1:6379."),
        (UP, {"node_ip": "10.0.0.9"}, "it cannot move to 10.0.0.9."),
        (NODE, {}, "this machine has joined the cluster at 10.0.0.1:6379. Deploy where that was"),
        (replace(UP, wire=1), {}, "started by another version of Wakeful"),
    ],
)
def test_what_another_cluster_is_needed_for_is_refused(up, changes, said):
    """A machine that joined one hears of that first, and not that HTTP cannot move."""
    with pytest.raises(RayError) as refused:
        refuse_update(up, replace(REQUEST, **changes))
    assert said in refused.value.message
    assert "`wakeful down`" in refused.value.message
