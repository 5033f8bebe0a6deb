"""A cluster that others use as well, and one that is not written down: what commands leave alone.
No Ray runs: the driver is a fake.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from deployments.cluster import cluster as module
from deployments.cluster.cluster import Cluster
from deployments.cluster.up_request import DriverRequest
from deployments.ingress import draining
from deployments.ray_support import processes
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.environment import HARD_STOP
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import ClusterState, DeployedApp, StateDir
from deployments.rollout.plan import Plan, PlannedApp
from runtime.settings import Settings
from tests.problems import expect_values

OTHERS = {"theirs": "/theirs", "default": ""}

PLAN = Plan(
    "0.0.0.0",
    8000,
    {},
    (
        PlannedApp("host", "/v2/models", "deployments:host"),
        PlannedApp("f", "/v2/models/f", "deployments:function"),
    ),
    (
        DeployedApp("host", "/v2/models", "host", "1"),
        DeployedApp("f", "/v2/models/f", "function", "1"),
    ),
)


class Shared:
    """A cluster with applications of others, and the driver that talks to it.

    Attributes:
        there: prefix by name of what is deployed.
        serves: whether Serve runs.
        fails_at: the application whose deployment fails.
    """

    def __init__(self) -> None:
        self.there = dict(OTHERS)
        self.serves = True
        self.fails_at: str | None = None
        self.calls: list[str] = []

    def __call__(self, *_: Any) -> Shared:
        return self

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, *_: object) -> None:
        """It holds nothing."""

    def close(self) -> None:
        """Nor here."""

    def ask(self, verb: str, address: str, **request: Any) -> Iterator[dict[str, Any]]:
        self.calls.append(verb)
        assert address == "10.0.0.1:6379"
        match verb:
            case "list":
                yield {"event": "applications", "prefixes": dict(self.there)}
            case "status":
                states = [asdict(AppState(name, "draining")) for name in self.there]
                yield {"event": "states", "states": states}
            case "deploy":
                if self.fails_at == "serve":
                    raise RayError("GetTimeoutError: list_named_actors")
                yield {"event": "serving", "started": not self.serves}
                self.serves = True
                for one in request["applications"]:
                    self.there[one["name"]] = one.get("route_prefix", "")
                    if one["name"] == self.fails_at:
                        raise RayError("it does not start")
            case "delete" | "shutdown":
                for name in request["names"]:
                    self.there.pop(name, None)
                if verb == "shutdown" and not self.there:
                    self.serves = False


@pytest.fixture
def home() -> Iterator[StateDir]:
    """An empty state folder; on its machine nothing runs."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        yield StateDir(Path(short) / "w")


@pytest.fixture
def shared(monkeypatch) -> Shared:
    """What every driver of these tests talks to."""
    found = Shared()
    monkeypatch.setattr(module, "open_driver", found)
    monkeypatch.setattr("deployments.rollout.rollout.wait_routed", lambda *_, **__: None)
    return found


def up(home: StateDir, plan: Plan = PLAN) -> None:
    """`wakeful up --address`."""
    Cluster(home).up(
        DriverRequest(
            plan, Settings(root=home.path, models=home.path), "f.yaml", address="10.0.0.1:6379"
        )
    )


def test_others_stay_when_up_fails(home, shared):
    """Before Serve answered, or in the middle: what this call deployed goes, and nothing else,
    Serve included.
    """
    for shared.fails_at in ("serve", "host", "f"):
        with pytest.raises(RayError):
            up(home)
        assert (shared.there, shared.serves) == (OTHERS, True)
        assert "shutdown" not in shared.calls
        assert home.load() is None


def test_down_deletes_what_up_deployed(home, shared):
    """On a Serve that was there, and on one that `up` started and others use by now; theirs alone
    end with ours.
    """
    for shared.there, shared.serves, others, serves in (
        (dict(OTHERS), True, {}, True),
        ({}, False, {"later": "/later"}, True),
        ({}, False, {}, False),
    ):
        before = dict(shared.there)
        up(home)
        assert shared.there.keys() == before.keys() | {"host", "f"}
        shared.there.update(others)
        assert Cluster(home).down()
        assert (shared.there, shared.serves) == ({**before, **others}, serves)


def test_what_an_attached_command_watches(home, shared):
    """The record of a joined cluster; of our own Ray its processes, even if none is left by then."""
    up(home)
    is_alive = Cluster(home).liveness_check()
    assert is_alive()
    state = home.load()
    assert state
    Cluster(home).down()
    assert not is_alive()
    for kind in ("own", "node"):
        home.save(replace(state, kind=kind))
        assert not Cluster(home).liveness_check()()


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (
            {"f": "/elsewhere"},
            "'f' stands already, and was not deployed from here. Name it otherwise",
        ),
        ({"host": ""}, "'host' stands already"),
        (
            {"g": "/v2/models/f"},
            "'g' is at /v2/models/f, where 'f' is to be. Give that another `route_prefix`.",
        ),
    ],
)
def test_what_others_have_is_not_taken(home, shared, theirs, reason):
    """Neither a name nor a prefix, by the first `up` or by a later one; before anything is
    deployed, and nothing is deleted.
    """
    shared.there.update(theirs)
    with pytest.raises(RayError, match=r"10\.0\.0\.1:6379") as error:
        up(home)
    assert reason in error.value.message
    assert shared.calls == ["list"]
    assert home.load() is None

    shared.there = dict(OTHERS)
    first = replace(
        PLAN, applications=(), deployed=(DeployedApp("mine", "/v2/models/mine", "function", "1"),)
    )
    up(home, first)
    shared.there.update(theirs)
    shared.calls.clear()
    with pytest.raises(RayError) as error:
        up(home)
    assert reason in error.value.message
    assert shared.calls == ["list"]
    standing = home.load()
    assert standing is not None
    assert standing.deployed == first.deployed


def test_what_we_deployed_may_be_deployed_again(home, shared):
    """It is in `up.json`."""
    up(home)
    shared.calls.clear()
    with pytest.raises(RayError, match="it cannot move"):
        up(home, replace(PLAN, port=8001))
    assert shared.calls == []
    Cluster(home)._refuse_name_conflicts(shared, home.load(), PLAN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "timeout_s", "refused"),
    [(None, 115, False), (None, 116, True), ("400", 300, False), ("400", 396, True)],
)
def test_a_deadline_beyond_haproxys_patience_is_refused(
    home, shared, monkeypatch, given, timeout_s, refused
):
    """A call of so long would be cut after a reload; the message says how to start the cluster so
    that it is not.
    """
    monkeypatch.delenv(HARD_STOP, raising=False)
    if given:
        monkeypatch.setenv(HARD_STOP, given)
    limits = {"request_timeout_s": timeout_s}
    slow = PlannedApp("f", "/v2/models/f", "deployments:function", {"limits": limits})
    plan = replace(PLAN, applications=(PLAN.applications[0], slow))
    if not refused:
        up(home, plan)
        return
    with pytest.raises(RayError) as error:
        up(home, plan)
    assert "limits.request_timeout_s of f is above" in error.value.message
    assert f"{HARD_STOP}={timeout_s + 95}" in error.value.message
    assert shared.calls == []
    up(home)
    shared.calls.clear()
    with pytest.raises(RayError, match="is above"):
        up(home, plan)
    assert shared.calls == []


@pytest.fixture
def forgotten(home, monkeypatch) -> StateDir:
    """Ray runs, and `up.json` has gone or cannot be read."""
    monkeypatch.setattr(processes, "ray_processes", lambda path: ["gcs_server", "raylet"])
    monkeypatch.setattr(module, "Head", None)  # no Ray is started, whatever fails here
    home.prepare()
    return home


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_cluster_that_is_not_written_down_is_not_ended_by_up(forgotten, monkeypatch, text):
    """Its calls would be cut; the message says what ends it in good order."""
    if text is not None:
        (forgotten.path / "up.json").write_text(text)
    ended: list[Path] = []
    monkeypatch.setattr(processes, "end_processes", ended.append)
    for address in (None, "10.0.0.1:6379"):
        with pytest.raises(RayError, match="`wakeful down` drains and ends it"):
            Cluster(forgotten).up(
                DriverRequest(
                    PLAN,
                    Settings(root=forgotten.path, models=forgotten.path),
                    "f.yaml",
                    address=address,
                )
            )
    assert ended == []


def test_down_drains_a_cluster_that_is_not_written_down(forgotten, monkeypatch):
    """For as long as its applications' deadlines; then it ends."""
    forgotten.save_applications([{"name": "f", "args": {"limits": {"request_timeout_s": 7}}}])
    done: list[Any] = []
    monkeypatch.setattr(
        draining, "drain", lambda home, drain_s, enough: done.append(drain_s) or "answered"
    )
    monkeypatch.setattr(processes, "end_processes", lambda home: done.append("ended") or 3)
    assert Cluster(forgotten).down(drain_s=60)
    assert done == [7, "ended"]
    assert json.loads((forgotten.path / "applications.json").read_text())


class Overtaken(StateDir):
    """Another command deploys ``g`` just before this one has the lock."""

    def lock(self) -> AbstractContextManager[None]:
        before = self.load()
        assert before is not None
        added = DeployedApp("g", "/v2/models/g", "function", "1")
        self.save(replace(before, deployed=(*before.deployed, added)))
        return super().lock()


def test_a_deletion_is_of_what_is_deployed_when_no_other_command_changes_it(home, shared):
    """What another one has deployed meanwhile stays written down."""
    up(home)
    Cluster(Overtaken(home.path)).delete("f")
    found = home.load()
    assert found is not None
    assert [entry.name for entry in found.deployed] == ["host", "g"]


def test_a_split_stage_is_not_taken_down_alone(home, shared):
    """Its function fails without it: nothing is deleted, and the text names what takes both."""
    part = DeployedApp("f.part", "/v2/models/f.part", "function", "1", part_of="f")
    up(home, replace(PLAN, deployed=(*PLAN.deployed, part)))
    with pytest.raises(RayError) as refused:
        Cluster(home).delete("f.part")
    expect_values(refused.value.message, "f.part", "wakeful down f")
    assert "delete" not in shared.calls
    found = home.load()
    assert found is not None
    assert [entry.name for entry in found.deployed] == ["host", "f", "f.part"]


def test_a_deployment_that_stays_is_not_reported_as_deleted(home, shared, monkeypatch):
    """The placement controller deletes those that it made, in its own time; Ray has this one still,
    and no catalogue answers.
    """
    monkeypatch.setattr(module, "delete_s", lambda longest: 0.0)
    hosted = replace(PLAN.deployed[1], hosted=True)
    up(home, replace(PLAN, deployed=(PLAN.deployed[0], hosted)))
    with pytest.raises(RayError, match="has not deleted the deployment of f within 0 s"):
        Cluster(home).delete("f")
    found = home.load()
    assert found is not None
    assert [entry.name for entry in found.deployed] == ["host"]


def test_a_machine_that_has_joined_does_not_take_no_answer_for_no_functions(home, monkeypatch):
    """The catalogue is on another one."""
    joined = ClusterState("node", "a:1", "127.0.0.1", 8000, "f", "r", "m")
    monkeypatch.setattr(module, "fetch_index", lambda *_: [])
    home.prepare()
    assert Cluster(home).functions(joined) == []
    monkeypatch.setattr(module, "fetch_index", lambda *_: None)
    with pytest.raises(RayError) as refused:
        Cluster(home).functions(joined)
    expect_values(refused.value.message, joined.url, "`wakeful status`")


@pytest.mark.parametrize("written", [{}, {"wire": 1}, {"wire": 99}])
def test_nothing_is_taken_out_of_what_another_version_started(home, shared, written):
    """An earlier one, whose first form has no number, or a later one: its processes would be sent
    what they do not understand. Nothing is asked of Ray, and all of it can be taken down.
    """
    up(home)
    file = home.path / "up.json"
    state = {key: value for key, value in json.loads(file.read_text()).items() if key != "wire"}
    file.write_text(json.dumps({**state, **written}))
    before, asked = file.read_text(), len(shared.calls)
    with pytest.raises(RayError) as refused:
        Cluster(home).delete("f")
    expect_values(refused.value.message, "another version", "`wakeful down`", "`wakeful up`")
    assert (file.read_text(), len(shared.calls)) == (before, asked)
    assert "f" in shared.there
    assert Cluster(home).down()
    assert shared.there == OTHERS
