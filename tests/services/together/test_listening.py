"""After `up` on one machine nothing listens beyond it."""

from __future__ import annotations

import pytest

from deployments.ray_support import processes
from tests.deployments.projects import Standing
from tests.services.listening import listeners

pytestmark = pytest.mark.ray


def test_nothing_listens_beyond_this_machine(up: Standing) -> None:
    """HTTP, Ray's own processes, replicas' two ports each, HAProxy's pages: all at the loopback
    address.
    """
    found = listeners(up.home.path)
    assert up.port in {one.port for one in found}
    by = {one.process[: len(processes.REPLICA_PROCESS)] for one in found}
    assert {"haproxy", processes.REPLICA_PROCESS, "raylet", "gcs_server"} <= by
    assert [one for one in found if not one.is_local] == []
