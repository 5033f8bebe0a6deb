"""A replica or a function goes while clients call: no call is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deployments.ray_support import processes
from tests.deployments.projects import HOST, Project, Standing, function, wait_until
from tests.services.test_drain import Callers

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def busy(standing: Standing) -> Iterator[Project]:
    """Up, with one function of two replicas and one of one."""
    with standing.served(
        *HOST,
        function("two", least=2, scaling=", max_replicas: 2"),
        function("goes"),
    ):
        yield standing


def test_a_replica_that_goes_loses_nothing(busy):
    """Two become one under clients that keep their connections."""
    with Callers(busy, "two") as callers:
        file = busy.folder / "serve_config.yaml"
        file.write_text(
            file.read_text().replace(
                "{min_replicas: 2, max_replicas: 2}", "{min_replicas: 1, max_replicas: 1}"
            )
        )
        assert busy.run("up", "--detach").returncode == 0
        wait_until(lambda: len(processes.by_name(busy.home.path, "ray::ServeReplica:two")) == 1)
        before = callers.seen["200"]
        wait_until(lambda: callers.seen["200"] > before + 50)
    assert set(callers.seen) == {"200"}, callers.seen


def test_a_function_that_goes_loses_nothing(busy):
    """Its callers are answered until they are told, in our form, that there is none; those of
    others do not notice.
    """
    with Callers(busy, "goes") as leaving, Callers(busy, "two") as staying:
        assert busy.run("down", "goes").returncode == 0
        wait_until(lambda: leaving.seen["404 not_found"] > 50)
        before = staying.seen["200"]
        wait_until(lambda: staying.seen["200"] > before + 50)
    assert set(leaving.seen) == {"200", "404 not_found"}, leaving.seen
    assert set(staying.seen) == {"200"}, staying.seen
