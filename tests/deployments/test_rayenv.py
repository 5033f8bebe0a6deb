"""The environment of a cluster."""

from __future__ import annotations

from pathlib import Path

from deployments.rayenv import ALONE, APART, MARK, SERVING, SidePorts, local, mapping, paths
from runtime.settings import PREFIX, VARIABLES, Settings

EVERY = (
    *SERVING,
    *local(Path("/h"), SidePorts(1, 2, 3, 4)),
    *paths(Settings(root=Path("/r"), models=Path("/m")), Path("/f/c.yaml"), "/p:/r"),
)


def test_every_variable_has_a_reason_and_stands_once():
    """`wakeful env` prints them."""
    assert len(mapping(EVERY)) == len(EVERY)
    assert all(variable.reason.endswith((".", ":")) for variable in EVERY)


def test_replicas_accept_our_variables():
    """Their settings refuse an unknown one of ours; the mark is none of them."""
    ours = {variable.name for variable in EVERY if variable.name.startswith(PREFIX)}
    assert ours <= set(VARIABLES)
    assert not MARK.startswith(PREFIX)


def test_stages_import_from_the_root_then_from_beside_the_file_then_as_before():
    """Each folder once."""
    assert mapping(EVERY)["PYTHONPATH"] == "/r:/f:/p"


def test_a_local_cluster_keeps_to_the_loopback_address_and_to_its_own_files():
    """No path outside the state folder; a token is asked for."""
    variables = mapping(local(Path("/h"), SidePorts(1, 2, 3, 4)))
    assert variables["RAY_AUTH_MODE"] == "token"
    assert all(value.startswith("/h") for value in variables.values() if value.startswith("/"))


def test_a_machine_that_others_join_is_heard_by_them():
    """Its own address instead of loopback, the same token and files; and a lost machine is looked for more often than Ray does."""
    alone, joined = (mapping(local(Path("/h"), SidePorts(1, 2, 3, 4), is_alone=is_alone)) for is_alone in (True, False))
    assert alone.keys() - joined.keys() == {ALONE.name}
    assert joined.keys() - alone.keys() == {variable.name for variable in APART}
    assert joined["RAY_AUTH_MODE"] == "token"
