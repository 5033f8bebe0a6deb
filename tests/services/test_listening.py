"""Where HTTP is for other machines, HAProxy alone listens for them."""

from __future__ import annotations

import httpx
import psutil
import pytest

from tests.deployments.projects import HOST, Project, function
from tests.services.listening import listeners

pytestmark = [pytest.mark.ray, pytest.mark.full]


def public_address() -> str:
    """Of this machine, beside the loopback one; empty where it has none."""
    return next(
        (
            one.address
            for addresses in psutil.net_if_addrs().values()
            for one in addresses
            if one.family.name == "AF_INET" and not one.address.startswith("127.")
        ),
        "",
    )


@pytest.mark.parametrize("host", ["0.0.0.0"])
def test_haproxy_alone_listens_for_other_machines(project: Project, host: str) -> None:
    """At the port that was asked for; replicas and all else stay at the loopback address."""
    project.declare(*HOST, function("say"))
    outcome = project.run("up", "--detach", "--host", host, "--insecure")
    assert outcome.returncode == 0, outcome.stderr
    beyond = {(one.process, one.port) for one in listeners(project.home.path) if not one.is_local}
    assert beyond == {("haproxy", project.port)}
    address = public_address() or "127.0.0.1"
    answer = httpx.post(
        f"http://{address}:{project.port}/v2/models/say", json={"name": "a"}, timeout=30
    )
    assert answer.status_code == 200
