"""`wakeful top` at a cluster."""

from __future__ import annotations

import pytest

from tests.deployments.projects import Standing

pytestmark = pytest.mark.ray


def test_the_functions_of_a_cluster(up: Standing):
    """Each with its tier and state, and the machine above them, in a pipe."""
    told = up.run("top", "--sort", "function")
    assert told.returncode == 0, told.stderr + told.stdout
    assert f"{up.url}  wakeful up of " in told.stdout
    assert " CPUs  " in told.stdout
    rows = {line.split()[0]: line.split() for line in told.stdout.splitlines() if line.split()}
    assert rows["drip_own"][2] == "own"
    assert rows["drip_rare"][2] in ("host", "own")
    assert rows["function"][:3] == ["function", "state", "tier"]
