"""The installed Ray is as Wakeful takes it to be; and a Ray that is not is seen."""

from __future__ import annotations

import types

import pytest

from deployments.ray_support import environment, texts
from deployments.ray_support.assumptions import ASSUMPTIONS, RUNNING, environment_names
from deployments.ray_support.assumptions.core import (
    FREE_BY_NODE,
    HEAD_PROCESSES,
    HEAD_STORE,
    TITLES,
)
from deployments.ray_support.assumptions.environment_names import rays_variables
from deployments.ray_support.assumptions.looking import texts_of
from deployments.ray_support.assumptions.serve import (
    CONTROLLER_NAME,
    DETAILS,
    HANDLES,
    INNER_GRPC,
    MANAGER,
    PROXY_STATE,
)
from deployments.ray_support.assumptions.written import DEATHS, OUTPUT

BY_NAME = {one.name: one for one in ASSUMPTIONS}


@pytest.mark.parametrize("name", BY_NAME)
def test_ray_is_as_it_is_taken_to_be(name: str):
    """A release that is not says here which entry, and what was found instead."""
    assert BY_NAME[name].fault() == ""


def test_each_entry_has_a_name_of_its_own_and_a_reason():
    """A reason is a sentence or more: what is built on it, and what is lost."""
    entries = (*ASSUMPTIONS, *RUNNING)
    assert len({one.name for one in entries}) == len(entries)
    assert all(one.reason.endswith(".") for one in entries)


GONE = [
    ("ray._private.node.Node.start_api_server", HEAD_PROCESSES.name),
    ("ray._private.state.available_resources_per_node", FREE_BY_NODE.name),
    ("ray.experimental.internal_kv._internal_kv_del", HEAD_STORE.name),
    ("ray.serve._private.proxy_router.ProxyRouter.update_routes", HANDLES.name),
    ("ray.serve._private.router.RouterMetricsManager", HANDLES.name),
    ("ray.serve._private.haproxy.HAProxyApi", MANAGER.name),
    ("ray.serve._private.proxy_state.ProxyState.try_update_status", PROXY_STATE.name),
    ("ray.serve._private.client.ServeControllerClient.get_serve_details", DETAILS.name),
    ("ray.serve._private.replica.add_port_to_grpc_server", INNER_GRPC.name),
    ("ray.serve._private.constants.SERVE_CONTROLLER_NAME", CONTROLLER_NAME.name),
    ("ray.exceptions.ActorDiedError.__init__", DEATHS.name),
    ("ray._private.ray_constants.LOG_PREFIX_ACTOR_NAME", OUTPUT.name),
    ("ray._private.ray_constants.WORKER_PROCESS_TYPE_IDLE_WORKER", TITLES.name),
]


@pytest.mark.parametrize(("name", "entry"), GONE)
def test_a_ray_without_a_name_is_seen(monkeypatch, name: str, entry: str):
    """By the entry that is built on it, and in words."""
    if name.rpartition(".")[2].isupper():
        monkeypatch.setattr(name, "something else")
    elif name.endswith("__init__"):
        monkeypatch.setattr(name, lambda error, cause: None)
    else:
        monkeypatch.delattr(name)
    assert BY_NAME[entry].fault().startswith(f"{entry}: ")


def test_a_variable_that_ray_does_not_read_is_seen(monkeypatch):
    """Of those that are looked for each is Ray's."""
    assert len(rays_variables()) > 40
    made = environment.Variable("RAY_SERVE_HAPROXY_MAXCONNS", "1", "A typing error.")
    monkeypatch.setattr(environment, "SERVING", (*environment.SERVING, made))
    assert "RAY_SERVE_HAPROXY_MAXCONNS" in rays_variables()
    for name in ("RAY_SERVE_HAPROXY_MAXCONNS", "RAY_worker_nicenes"):
        assert "reads it" in environment_names._assumption(name).fault()


def test_texts_that_lie_beside_each_other_are_read_as_one(tmp_path):
    """As Ray's messages are written; values are put in."""
    module = types.ModuleType("made")
    file = tmp_path / "made.py"
    file.write_text('a = 1\nsaid = (f"has {a} of " "two, " f"{a}.")\nother = "plain"\n')
    module.__file__ = str(file)
    assert {"has V of two, V.", "plain"} <= set(texts_of(module, "V"))


def test_another_wording_of_a_message_is_not_read():
    """As an entry sees it, where Ray says it otherwise."""
    said = "Resources wanted by a replica: {'CPU': 1.0}, free: {'CPU': 1.0}."
    assert texts.read_wait(said) is None
    assert texts.read_error("all is well") is None
