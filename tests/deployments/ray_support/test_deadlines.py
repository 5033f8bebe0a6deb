"""How long the parts of a cluster wait for calls in flight."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.cluster import driver
from deployments.placement.builders import host
from deployments.ray_support.deadlines import (
    delete_s,
    given_hard_stop_s,
    hard_stop_s,
    leave_s,
    longest_s,
    most_s,
    stop_s,
)
from deployments.ray_support.environment import HARD_STOP
from deployments.serving.application import deployment_options
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.sections import MAX_TIMEOUT_S


@pytest.mark.parametrize(
    ("applications", "seconds"),
    [
        ([], 30),
        ([{"name": "other"}], 30),
        ([{"args": {"limits": {"request_timeout_s": 5}}}], 5),
        ([{"args": {"limits": {"request_timeout_s": 60}}}, {"args": {}}], 60),
        (
            [
                {
                    "args": {
                        "functions": [{"args": {"limits": {"request_timeout_s": 90}}}, {"args": {}}]
                    }
                }
            ],
            90,
        ),
    ],
)
def test_the_longest_deadline_of_what_is_deployed(applications, seconds):
    """Of applications, and of the functions of a host; what declares nothing has the
    default's.
    """
    assert longest_s(applications) == seconds


@pytest.mark.parametrize(
    ("longest", "hard_stop", "stop", "delete", "leave"),
    [
        (0.5, 210, 5.5, 35.5, 30.5),
        (30, 210, 35, 65, 60),
        (115, 210, 120, 150, 145),
        (115.5, 211, 120.5, 150.5, 145.5),
        (300, 395, 305, 335, 330),
        (MAX_TIMEOUT_S, 3695, 3605, 3635, 3630),
    ],
)
def test_whatever_ends_something_outlasts_the_longest_deadline(
    longest, hard_stop, stop, delete, leave
):
    """HAProxy after a reload, Ray's replicas, the deletion of an application, a machine that
    leaves.
    """
    assert (hard_stop_s(longest), stop_s(longest), delete_s(longest), leave_s(longest)) == (
        hard_stop,
        stop,
        delete,
        leave,
    )


@pytest.mark.parametrize("keep_alive", [1, 90, 620])
@pytest.mark.parametrize("longest", [1, 30, 115, 116, MAX_TIMEOUT_S])
def test_a_call_that_an_idle_connection_has_at_last_ends_before_haproxy_does(longest, keep_alive):
    """A HAProxy that was replaced passes it on, so it has to live as long. The same bound says which
    deadlines may be declared later.
    """
    hard_stop = hard_stop_s(longest, keep_alive)
    assert hard_stop > keep_alive + longest
    assert longest <= most_s(hard_stop, keep_alive)


def test_ray_gives_replicas_and_hosts_their_functions_deadlines():
    """A host that of the slowest of its functions."""
    args = {"onnx": "x.onnx", "limits": {"request_timeout_s": 300}}
    assert (
        deployment_options(FunctionSpec.from_args("f", "/f", args))["graceful_shutdown_timeout_s"]
        == 305
    )
    built = host(
        {"functions": [{"name": "f", "args": args}, {"name": "g", "args": {"onnx": "x.onnx"}}]}
    )
    assert built._bound_deployment._deployment_config.graceful_shutdown_timeout_s == 305


class Serve:
    """Ray Serve, on which an application goes after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.deleted: list[str] = []

    def delete(self, name: str) -> None:
        self.deleted.append(name)

    def applications(self) -> dict[str, Any]:
        self.looks -= 1
        return {"f": {}} if self.looks >= 0 else {}


def test_an_application_is_waited_for_as_long_as_its_calls_may_take(monkeypatch):
    """Not for Ray's minute; its bell is taken down once it is gone, and not before."""
    taken: list[str] = []
    monkeypatch.setattr(driver, "DELETE_POLL_S", 0.001)
    monkeypatch.setattr(driver, "remove_signal", taken.append)
    serve = Serve(3)
    monkeypatch.setattr(driver, "begin_delete", serve.delete)
    monkeypatch.setattr(driver, "application_details", serve.applications)
    driver.delete_application("f", within_s=60)
    assert (serve.deleted, serve.looks, taken) == (["f"], -1, ["f"])
    late = Serve(10**9)
    monkeypatch.setattr(driver, "begin_delete", late.delete)
    monkeypatch.setattr(driver, "application_details", late.applications)
    with pytest.raises(TimeoutError, match="has not deleted 'f' within 0 s"):
        driver.delete_application("f", within_s=0.01)
    assert taken == ["f"]


@pytest.mark.parametrize(("setting", "found"), [(None, 120), ("", 120), ("400", 400), ("x", 120)])
def test_the_hard_stop_of_a_cluster_started_by_hand_is_in_its_environment(
    monkeypatch, setting, found
):
    """`wakeful env` keeps it."""
    monkeypatch.delenv(HARD_STOP, raising=False)
    if setting is not None:
        monkeypatch.setenv(HARD_STOP, setting)
    assert given_hard_stop_s() == found
