"""The catalogue at its end. No Ray runs: its status is a fake."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from deployments.placement import controller as module
from deployments.placement.catalogue import Catalogue, ClusterTasks
from deployments.placement.controller import PersistedState, PlacementController, RayCalls
from deployments.scaling.tier_policy import DEFAULT
from deployments.serving.remote_caller import HttpFunctionCaller, ingress_address
from runtime.http.catalogue.task_routes.handler import TaskRoutes


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that serves."""
    return "asyncio"


@pytest.mark.anyio
async def test_a_catalogue_that_ends_decides_on_placement_no_more(anyio_backend, monkeypatch):
    """The one that takes its place does, while this one answers its last calls."""
    monkeypatch.setattr(module, "_fetch_apps", lambda: (time.monotonic(), {}))
    controller = PlacementController(
        "default", DEFAULT, 0, PersistedState("default"), {}, RayCalls()
    )
    caller = HttpFunctionCaller(ingress_address)
    handler = TaskRoutes(ClusterTasks(controller.placement, caller))
    assert controller.is_healthy
    ending = SimpleNamespace(handler=handler, _controller=controller, _caller=caller)
    await Catalogue.__del__(ending)
    assert not controller.is_healthy
