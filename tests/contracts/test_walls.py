"""What is said of the releases that are taken is what is tried."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.contracts.walls import WALLS, Wall
from tests.installation.environments import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGE = (ROOT / "docs" / "install.md").read_text()


@pytest.mark.parametrize("wall", WALLS, ids=lambda one: one.package)
def test_the_page_and_the_package_say_what_is_tried(wall: Wall) -> None:
    """The page names each release; the package takes no older one, and the newest."""
    (row,) = re.findall(rf"^\| {re.escape(wall.package)} \| ([^|]*) \| ([^|]*) \|", PAGE, re.M)
    assert row[1].split(", ") == list(wall.versions)
    everything = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["ray"]]
    (wanted,) = (one for one in everything if re.match(rf"{re.escape(wall.package)}[<>=]", one))
    (oldest,) = re.findall(r">=([\d.]+)", wanted)
    assert wall.versions[0] == oldest or wall.versions[0] == f"{oldest}.0"
    numbers = [[int(part) for part in one.split(".")] for one in wall.versions]
    assert numbers == sorted(numbers)
