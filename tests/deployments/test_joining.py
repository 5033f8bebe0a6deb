"""A machine that would join a cluster."""

from __future__ import annotations

import pytest

from deployments.home import Up
from deployments.hosting import reachable


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_said_and_nothing_is_left(project):
    """With the address, and the token that it might be."""
    (project.folder / "token").write_text("t" * 64)
    done = project.run("join", "127.0.0.1:1", "--token-file", "token", "--detach")
    assert done.returncode == 1
    assert "no Ray answers at 127.0.0.1:1 within 20 s" in done.stderr
    assert project.home.load() is None
    assert project.home.key() == b"t" * 64
    assert project.is_clean()


def test_up_wants_an_address_that_others_reach(project):
    """A head that others may join, and HTTP that they may not reach, do not go together."""
    project.declare()
    (project.folder / "serve_config.yaml").write_text("applications: []\n")
    done = project.run("up", "--node-ip-address", "10.0.0.1", "--host", "127.0.0.1")
    assert done.returncode == 2
    assert "Add `--host 0.0.0.0`" in done.stderr


@pytest.mark.parametrize(
    ("kind", "node_ip", "is_open"),
    [("own", "127.0.0.1", False), ("own", "10.0.0.1", True), ("joined", "127.0.0.1", True), ("node", "10.0.0.2", True)],
)
def test_a_cluster_of_which_there_may_be_more_machines(kind, node_ip, is_open):
    """All but one that listens on the loopback address alone."""
    assert Up(kind, "a:1", "0.0.0.0", 8000, "f", "r", "m", node_ip=node_ip).is_open is is_open


@pytest.mark.parametrize(
    ("seen", "told"), [("127.0.0.1:30001", "10.0.0.1:30001"), ("10.0.0.1:30001", "10.0.0.1:30001"), ("[::1]:5", "10.0.0.1:5"), ("", "")]
)
def test_peers_are_told_an_address_that_they_reach(seen, told):
    """HAProxy calls the replicas of its own machine by the loopback address, which on another is another machine's."""
    assert reachable(seen, "10.0.0.1") == told
