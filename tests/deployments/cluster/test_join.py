"""A machine that would join a cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from deployments.cli.operations.join import join
from deployments.cluster import join as joining
from deployments.ray_support import processes
from deployments.ray_support.deadlines import leave_s
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.state_dir import WIRE, ClusterState, StateDir, StateDirUnusable
from deployments.serving.host import reachable


@pytest.fixture
def home(tmp_path, monkeypatch) -> Iterator[StateDir]:
    """The state folder of a machine on which a cluster runs; its Ray is only written down."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        home = StateDir()
        home.prepare()
        home.save(ClusterState("own", "127.0.0.1:6379", "127.0.0.1", 8000, "f", "r", "m"))
        monkeypatch.setattr(processes, "ray_processes", lambda path: ["raylet"])
        yield home


def error_of(*arguments: str) -> BaseException | None:
    """What becomes of `wakeful join` with them."""
    return (
        CliRunner()
        .invoke(
            join, ["127.0.0.1:1", "--lock", "none", *arguments], help_option_names=["-h", "--help"]
        )
        .exception
    )


@pytest.mark.parametrize("is_its_own", [False, True])
def test_the_token_of_what_is_up_stays(home, tmp_path, is_its_own):
    """Whatever file is given, the token itself included: everything that runs here has it."""
    other = home.path / "token" if is_its_own else tmp_path / "token"
    before = home.key()
    if not is_its_own:
        other.write_text("f" * 64)
    error = error_of("--token-file", str(other))
    assert isinstance(error, RayError)
    assert "something is up on this machine already" in error.message
    assert home.key() == before


def test_what_runs_without_being_written_down_is_not_ended_by_a_join(home, monkeypatch):
    """Its `up.json` was lost; `wakeful down` ends it in good order."""
    home.clear()
    ended: list[Path] = []
    monkeypatch.setattr(processes, "end_processes", ended.append)
    error = error_of()
    assert isinstance(error, RayError)
    assert "wakeful down" in error.message
    assert ended == []


def test_an_empty_token_is_refused(home, monkeypatch, tmp_path):
    """It would let every machine in; the folder keeps its own."""
    monkeypatch.setattr(processes, "ray_processes", lambda path: [])
    before = home.key()
    (tmp_path / "token").write_text("\n")
    error = error_of("--token-file", str(tmp_path / "token"))
    assert isinstance(error, StateDirUnusable)
    assert "empty" in error.message
    assert home.key() == before


def test_a_cluster_that_does_not_answer_is_reported_and_nothing_is_left(
    home, monkeypatch, tmp_path
):
    """With the address, and the token that it might be."""
    home.clear()
    monkeypatch.setattr(processes, "ray_processes", lambda path: [])
    monkeypatch.setattr(joining, "ASK_S", 0.1)
    (tmp_path / "token").write_text("t" * 64)
    error = error_of("--token-file", str(tmp_path / "token"), "--detach")
    assert isinstance(error, RayError)
    assert "no Ray answers at 127.0.0.1:1 within 0 s" in error.message
    assert home.load() is None
    assert home.key() == b"t" * 64
    assert not processes.cluster_processes(home.path)


def test_up_wants_an_address_that_others_reach(project):
    """A head that others may join, and HTTP that they may not reach, do not go together."""
    project.declare()
    (project.folder / "serve_config.yaml").write_text("applications: []\n")
    done = project.run("up", "--node-ip-address", "10.0.0.1", "--host", "127.0.0.1")
    assert done.returncode == 2
    assert "Add `--host 0.0.0.0`" in done.stderr


@pytest.mark.parametrize(
    ("kind", "node_ip", "is_open"),
    [
        ("own", "127.0.0.1", False),
        ("own", "10.0.0.1", True),
        ("joined", "127.0.0.1", True),
        ("node", "10.0.0.2", True),
    ],
)
def test_a_cluster_of_which_there_may_be_more_machines(kind, node_ip, is_open):
    """All but one that listens on the loopback address alone."""
    assert (
        ClusterState(kind, "a:1", "0.0.0.0", 8000, "f", "r", "m", node_ip=node_ip).is_open
        is is_open
    )


@pytest.mark.parametrize(
    ("seen", "address"),
    [
        ("127.0.0.1:30001", "10.0.0.1:30001"),
        ("10.0.0.1:30001", "10.0.0.1:30001"),
        ("[::1]:5", "10.0.0.1:5"),
        ("", ""),
    ],
)
def test_peers_get_an_address_that_they_reach(seen, address):
    """HAProxy calls the replicas of its own machine by the loopback address, which on another is
    another machine's.
    """
    assert reachable(seen, "10.0.0.1") == address


def test_a_machine_on_which_ray_does_not_start_has_not_joined(home, monkeypatch, tmp_path):
    """What was started is ended, and nothing says that the machine is one of the cluster."""
    home.clear()
    done: list[str] = []
    monkeypatch.setattr(processes, "ray_processes", lambda path: [])
    monkeypatch.setattr(processes, "end_processes", lambda path: done.append("ended"))
    facts = {"port": 9000, "hard_stop_s": 90, "wire": WIRE}
    monkeypatch.setattr(joining, "_fetch_facts", lambda *_: facts)

    def start(state_dir: StateDir, up: ClusterState, machine: object) -> None:
        found = state_dir.load()
        assert found is not None
        assert (found.kind, found.port, found.hard_stop_s) == ("node", 9000, 90)
        done.append("started")
        raise RayError("Ray did not start here: no room")

    monkeypatch.setattr(joining, "_start", start)
    (tmp_path / "token").write_text("t" * 64)
    error = error_of("--token-file", str(tmp_path / "token"), "--detach")
    assert isinstance(error, RayError)
    assert "no room" in error.message
    assert done == ["ended", "started", "ended"]
    assert home.load() is None


def test_a_cluster_of_another_version_is_not_joined(home, monkeypatch, tmp_path):
    """Its placement controller would not understand what the host of this machine reports."""
    home.clear()
    monkeypatch.setattr(processes, "ray_processes", lambda path: [])
    monkeypatch.setattr(joining, "_fetch_facts", lambda *_: {"port": 9000})
    monkeypatch.setattr(joining, "_start", lambda *_: pytest.fail("it started"))
    (tmp_path / "token").write_text("t" * 64)
    error = error_of("--token-file", str(tmp_path / "token"), "--detach")
    assert isinstance(error, RayError)
    assert "install the version that the cluster has" in error.message
    assert home.load() is None


@pytest.mark.parametrize(
    ("longest_s", "drain_s", "stays_s", "waits_s"),
    [
        (30.0, 600.0, 5.0, 5.0 + joining.UNROUTED_S),
        (30.0, 4.0, 900.0, 4.0 + joining.UNROUTED_S),
        (30.0, 600.0, 900.0, leave_s(30.0) + joining.UNROUTED_S),
        (None, 600.0, 900.0, 0.0),
        (30.0, 0.0, 900.0, 0.0),
    ],
)
def test_a_machine_leaves_when_the_others_serve_what_it_did(
    home, clock, monkeypatch, longest_s, drain_s, stays_s, waits_s
):
    """Ray is told first; then its replicas move, within the longest deadline and the time that the
    operator gives; then no HAProxy sends calls here any more; then all ends. Where the cluster is
    gone there is nothing to wait for.
    """
    up = home.load()
    assert up is not None
    began = clock()
    done: list[str] = []

    def retire(*_: object) -> float | None:
        done.append("told")
        return longest_s

    monkeypatch.setattr(joining, "_retire_node", retire)
    monkeypatch.setattr(joining.time, "sleep", clock.advance)
    monkeypatch.setattr(
        processes, "by_name", lambda path, name: ["replica"] if clock() - began < stays_s else []
    )
    monkeypatch.setattr(
        processes, "end_processes", lambda path: done.append(f"{clock() - began:.0f}") or 1
    )
    assert joining.leave(home, up, lambda event, details: None, drain_s, lambda: False)
    assert done == [*(["told"] if drain_s else []), f"{waits_s:.0f}"]
    assert home.load() is None
