"""What is said of the releases that are taken is what is tried."""

from __future__ import annotations

import re
import tomllib
from itertools import chain

import pytest

from tests.contracts.walls import WALLS, Wall
from tests.installation.environments import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
PAGE = (ROOT / "docs" / "install.md").read_text()


@pytest.mark.parametrize("wall", WALLS, ids=lambda one: one.package)
def test_the_page_and_the_package_say_what_is_tried(wall: Wall) -> None:
    """The page names each release, in order, and the package takes none that is older."""
    rows = re.findall(r"^\| ([^|]*) \| [^|]* \| ([^|]*) \|$", PAGE, re.MULTILINE)
    (tried,) = (tried for package, tried in rows if wall.package in re.split(r"[ ,]+", package))
    assert tried.split(", ") == list(wall.versions)
    name = re.escape(wall.package)
    (oldest,) = {
        found[1] for one in WANTED if (found := re.match(rf"{name}(?:\[\w+\])?>=([\d.]+)", one))
    }
    assert f"{wall.versions[0]}.".startswith(f"{oldest}.")
    numbers = [[int(part) for part in one.split(".")] for one in wall.versions]
    assert numbers == sorted(numbers)
