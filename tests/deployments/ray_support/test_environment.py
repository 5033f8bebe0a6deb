"""The environment of a cluster."""

from __future__ import annotations

from pathlib import Path

from ray.serve._private import constants

from deployments.ingress.haproxy.rules import UPLOAD_S
from deployments.ray_support.deadlines import hard_stop, proxy_patience
from deployments.ray_support.environment import (
    LOCAL_CLUSTER,
    MARK,
    NO_AGENT_METRICS,
    OPEN_CLUSTER,
    SERVING,
    SidePorts,
    local_variables,
    path_variables,
    to_mapping,
)
from runtime.http.transport.peer import MIN_READ_BYTES_S
from runtime.settings import PREFIX, VARIABLES, Settings

EVERY = (
    *SERVING,
    *local_variables(Path("/h"), SidePorts(1, 2, 3, 4)),
    hard_stop(1),
    proxy_patience(1),
    *path_variables(Settings(root=Path("/r"), models=Path("/m")), Path("/f/c.yaml"), "/p:/r"),
)


def test_every_variable_has_a_reason_and_is_set_once():
    """`wakeful env` prints them."""
    assert len(to_mapping(EVERY)) == len(EVERY)
    assert all(variable.reason.endswith((".", ":")) for variable in EVERY)


def test_replicas_accept_our_variables():
    """Their settings refuse an unknown one of ours; the mark is none of them."""
    ours = {variable.name for variable in EVERY if variable.name.startswith(PREFIX)}
    assert ours <= set(VARIABLES)
    assert not MARK.startswith(PREFIX)


def test_stages_import_from_the_root_then_from_the_file_s_folder_then_as_before():
    """Each folder once."""
    assert to_mapping(EVERY)["PYTHONPATH"] == "/r:/f:/p"


def test_a_local_cluster_keeps_to_the_loopback_address_and_to_its_own_files():
    """No path outside the state folder; a token is required."""
    variables = to_mapping(local_variables(Path("/h"), SidePorts(1, 2, 3, 4)))
    assert variables["RAY_AUTH_MODE"] == "token"
    assert all(value.startswith("/h") for value in variables.values() if value.startswith("/"))


def test_a_machine_that_others_join_listens_to_them():
    """Its own address instead of loopback, the same token and files; and a lost machine is looked
    for more often than Ray does.
    """
    alone, joined = (
        to_mapping(local_variables(Path("/h"), SidePorts(1, 2, 3, 4), is_alone=is_alone))
        for is_alone in (True, False)
    )
    assert alone.keys() - joined.keys() == {LOCAL_CLUSTER.name}
    assert joined.keys() - alone.keys() == {
        variable.name for variable in (*OPEN_CLUSTER, NO_AGENT_METRICS)
    }
    assert joined["RAY_AUTH_MODE"] == "token"


def test_serve_gives_up_on_a_proxy_no_sooner_than_on_its_start():
    """It would kill one that is slow on a busy machine, and `up` would fail with it, while Serve
    would have waited for it.
    """
    one_check_s = float(to_mapping(SERVING)["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"])
    assert (
        one_check_s * constants.PROXY_HEALTH_CHECK_UNHEALTHY_THRESHOLD
        > constants.HTTP_PROXY_TIMEOUT
    )
    assert one_check_s >= constants.RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S


def test_a_client_that_takes_nothing_is_given_up_after_those_that_read_as_they_must():
    """The kernel says that there is room again when a third of its 4 MiB is free."""
    timeout_s = int(to_mapping(SERVING)["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"])
    assert 4 * 1024 * 1024 / 3 / MIN_READ_BYTES_S < timeout_s <= UPLOAD_S
