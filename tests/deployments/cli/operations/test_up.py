"""What `wakeful up` says of what does not start, and leaves; on Ray: ``tests/deployments/cluster``."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.cli import COMMANDS
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import ClusterState, DeployedApp, StateDir
from deployments.rollout.rollout import RolloutOutcome
from runtime.declaration.config_file import read
from runtime.graph.resolve import ResolvedConfig

FILE = """\
applications:
  - {name: good, args: {graph: [{stage: s, python: "m:f"}]}}
  - {name: bad, args: {graph: [{stage: s, python: "m:g"}]}}
"""
STATES = (AppState("good", "ready", 1), AppState("bad", "failed", 0, "ValueError: not here"))
DEPLOYED = tuple(
    DeployedApp(name, f"/v2/models/{name}", "function", "1") for name in ("good", "bad")
)
MODULE = importlib.import_module(COMMANDS["up"].partition(":")[0])
UP = ClusterState("own", "127.0.0.1:1", "127.0.0.1", 1, "", "/", "/", deployed=DEPLOYED)


@pytest.fixture
def state_dir() -> Iterator[StateDir]:
    """A state folder in which something is up; its Ray has no processes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state_dir = StateDir(Path(short) / "w")
        state_dir.prepare()
        state_dir.save(UP)
        yield state_dir


@pytest.mark.parametrize(
    ("is_fresh", "said"),
    [
        (True, "Everything was taken down again, since nothing was up before."),
        (False, ""),
    ],
)
def test_what_fails_is_said_and_goes_where_nothing_was_up(
    state_dir: StateDir,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    is_fresh: bool,
    said: str,
) -> None:
    """With all that came with it; after an update the rest stays."""
    file = tmp_path / "serve_config.yaml"
    file.write_text(FILE)
    outcome = RolloutOutcome(UP, is_fresh, STATES)
    assert not MODULE._report(state_dir, outcome, ResolvedConfig.split(read(file)))
    printed = capsys.readouterr()
    assert "bad failed: ValueError: not here" in printed.err
    assert said in printed.err
    assert ("good is ready" in printed.out) is not is_fresh
    assert (state_dir.load() is None) is is_fresh
