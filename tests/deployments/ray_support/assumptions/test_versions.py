"""Which releases of Ray are taken, which are refused, and of which it is said that they are new."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from deployments.ray_support.assumptions.versions import OLDEST, TRIED, hint, judge, refusal
from tests.problems import expect_values

JUDGED = [
    ("2.58.1", "old"),
    ("1.99.0", "old"),
    ("2.9.3", "old"),
    ("2.59.0", "tried"),
    ("2.59.3", "tried"),
    ("2.60.0", "tried"),
    ("2.60.0rc1", "tried"),
    ("2.61.0", "new"),
    ("2.100.0", "new"),
    ("3.0.0.dev0", "new"),
    ("unknown", "new"),
]


@pytest.mark.parametrize(("version", "judgement"), JUDGED)
def test_a_release_is_judged_by_its_number(version: str, judgement: str):
    """As numbers, and not as text; what is refused and what is hinted at follow from it."""
    assert judge(version) == judgement
    assert bool(refusal(version)) == (judgement == "old")
    assert bool(hint(version)) == (judgement == "new")


def test_a_refusal_says_what_to_install():
    """And what is there."""
    expect_values(refusal("2.58.1"), "2.58.1", "2.59", "pip install 'ray[serve]>=2.59'")
    expect_values(hint("2.61.0"), "2.61.0", "2.59 and 2.60", "pip install 'ray[serve]==2.60.*'")


def test_the_package_wants_the_oldest_that_is_taken(root: Path):
    """And docs/install.md has each that was tried."""
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (wanted,) = (one for one in extras["ray"] if one.startswith("ray["))
    assert wanted == f"ray[serve]>={OLDEST[0]}.{OLDEST[1]},<{OLDEST[0] + 1}"
    page = (root / "docs" / "install.md").read_text()
    (tried,) = re.findall(
        r"^\| ray \| 2\.59 and newer, below 3 \| ([\d., ]+) \|", page, re.MULTILINE
    )
    assert tuple(dict.fromkeys(_minor(one) for one in tried.split(", "))) == TRIED


def _minor(version: str) -> tuple[int, int]:
    major, minor, *_ = map(int, version.split("."))
    return major, minor
