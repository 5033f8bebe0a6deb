"""What begins when processes share the tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.distribution import ON_RAY_S, STANDING, Durations, order, share

SECONDS = {"a_on_it.py": 50.0, "long.py": 90.0, "b_on_it.py": 60.0, "short.py": 2.0, "gone.py": 5.0}


@pytest.mark.parametrize(
    ("path", "before"),
    [
        ("a_on_it.py", 110.0),
        ("b_on_it.py", 110.0),
        ("new_on_it.py", 110.0),
        ("long.py", 90.0),
        ("new_on_ray.py", ON_RAY_S),
        ("short.py", 2.0),
        ("new.py", 0.0),
    ],
)
def test_the_longest_share_begins(path: str, before: float) -> None:
    """All that use the standing cluster are one; of a file that was not measured, its marks say."""
    sort_key = order(
        SECONDS,
        lambda path: STANDING if "_on_it" in path else path,
        lambda path: "ray" in path,
    )
    assert sort_key(path) == -before


def test_a_share_is_known_by_the_fixture_that_a_file_names() -> None:
    """A file of another name now is one of its own."""
    assert share("tests/services/test_redeploy.py") == STANDING
    assert share("tests/services/test_drain.py") == "tests/services/test_drain.py"
    assert share("tests/no_such_file.py") == "tests/no_such_file.py"


def test_what_a_file_takes_is_written_down(tmp_path: Path) -> None:
    """Of all of its tests, with their set-ups, in whole seconds; one that takes next to nothing is
    left out.
    """
    durations = Durations(tmp_path / "durations.json")
    for nodeid, when, seconds in (
        ("b.py::test_one", "setup", 1.25),
        ("a.py::test_one", "call", 0.6),
        ("b.py::test_one", "call", 2.0),
        ("b.py::test_two[b.py::x]", "call", 0.5),
        ("c.py::test_one", "call", 0.4),
    ):
        report = pytest.TestReport(nodeid, ("", 0, ""), {}, "passed", None, when, duration=seconds)
        durations.pytest_runtest_logreport(report)
    durations.pytest_sessionfinish()
    assert json.loads((tmp_path / "durations.json").read_text()) == {"a.py": 1, "b.py": 4}
