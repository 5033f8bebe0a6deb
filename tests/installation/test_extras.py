"""The extras of the package, as the code and docs/install.md name them."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from runtime.system.extras import EXTRA_OF
from tests.installation.environments import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

EXTRAS = {
    extra: {re.match(r"[\w-]+", wanted)[0] for wanted in packages}
    for extra, packages in PROJECT["optional-dependencies"].items()
}
"""Names of packages by extra."""


distributions = cache(packages_distributions)
"""It reads what every package has written of itself: a third of a second."""


@pytest.mark.parametrize("module", EXTRA_OF)
def test_a_module_comes_with_the_extra_that_is_named_for_it(module):
    """The line that a message prints installs it."""
    installed = {name.lower().replace("_", "-") for name in distributions()[module]}
    builds = {"onnxruntime"} if "onnxruntime-gpu" in installed else set()  # as a clone has it
    assert (installed | builds) & EXTRAS[EXTRA_OF[module]]


def test_the_page_has_each_extra_with_its_packages():
    """And no other."""
    text = (ROOT / "docs" / "install.md").read_text()
    rows = dict(re.findall(r"^\| `\[(\w+)\]` \| ([^|]*) \|", text, re.MULTILINE))
    assert set(rows) == set(EXTRAS) - {"dev", "docs"}  # those are of a clone
    for extra, brings in rows.items():
        assert {re.match(r"[\w-]+", each)[0] for each in brings.split(", ")} == EXTRAS[extra]
