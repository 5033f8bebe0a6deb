"""A command that is forked is as one that was started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.deployments.projects import COMMANDS, Project, wait_until

STAGE = """\
import os, sys

print(sorted(os.environ), os.getcwd(), sys.path[:3], sys.argv[1:], file=sys.stderr)

sys.stdout.reconfigure(errors="replace")

def say(name: str) -> str:
    return name
"""


@pytest.mark.parametrize("arguments", [("check",), ("nothing",), ("status", "--json")])
def test_a_command_says_the_same(project: Project, arguments: tuple[str, ...]) -> None:
    """Its status, what it writes, and what a stage that it imports finds."""
    (project.folder / "said_of_a_test.py").write_text(STAGE)
    (project.folder / "serve_config.yaml").write_text(
        'applications:\n  - {name: a, args: {graph: [{stage: s, python: "said_of_a_test:say"}]}}\n'
    )
    project.more["PYTHONPATH"] = str(Path(__file__).parent.parent)
    forked = project.run(*arguments)
    started = subprocess.run(
        [sys.executable, "-m", "deployments.cli", *arguments],
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


@pytest.mark.full
def test_a_command_that_is_not_waited_for_ends(project: Project) -> None:
    """As one whose time with `subprocess.run` is over."""
    (project.folder / "slow_stage_of_a_test.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    project.declare(
        '  - {name: a, args: {graph: [{stage: s, python: "slow_stage_of_a_test:say"}]}}\n'
    )
    with pytest.raises(TimeoutError):
        COMMANDS.run(("check",), project.folder, project.environment, 5)
    written = project.folder / "pid"
    wait_until(written.exists)
    wait_until(lambda: not psutil.pid_exists(int(written.read_text())))
