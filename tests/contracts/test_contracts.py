"""Other releases than the installed one are as they are taken to be, and serve as it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.environments import LayeredEnvironment
from tests.contracts.walls import WALLS, Wall

pytestmark = [pytest.mark.full, pytest.mark.slow, pytest.mark.timeout(1800)]

RELEASES = [(wall, version) for wall in WALLS for version in wall.versions]


@pytest.mark.parametrize(
    ("wall", "version"), RELEASES, ids=[f"{wall.package} {one}" for wall, one in RELEASES]
)
def test_a_release_that_is_taken_is_as_assumed_and_serves(
    tmp_path: Path, wall: Wall, version: str
) -> None:
    """Each assumption holds, and the tests of what is built on them pass, in an environment that
    has it.
    """
    wanted = (*wall.options, f"{wall.package}=={version}")
    environment = LayeredEnvironment.make(tmp_path / "layer", *wanted, programs=wall.programs)
    look = ("-m", "tests.contracts.look", wall.package, wall.assumptions)
    looked = environment.run(*look, timeout_s=120)
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert looked.stdout.startswith(f"{wall.package} {version}: ")
    for chosen, tests in (("not full and not ray", wall.tests), ("ray", wall.jobs)):
        if tests:
            # a cluster may have to wait for those of the tests beside these
            options = ("-q", "-x", "-p", "no:cacheprovider", "--timeout", "900")
            arguments = (*options, "-m", chosen, *tests)
            tested = environment.run("-m", "pytest", *arguments, timeout_s=1200)
            assert tested.returncode == 0, tested.stdout[-8000:] + tested.stderr[-2000:]
