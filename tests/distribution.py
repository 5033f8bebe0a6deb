"""How ``pytest -n 3`` shares the tests, so that its processes end together: file by file, and what
takes longest begins. All that use the standing cluster are one share, so that there is one.

What a file takes is in ``durations.json``, which ``make durations`` writes.

(xdist has groups by a mark, but of pytest 9.2's ids it does not see them.)
"""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
DURATIONS: Final = Path(__file__).with_name("durations.json")
STANDING: Final = "the standing cluster"

LEAST_S: Final = 0.5
"""A file that takes less is not written down, and counts as nothing: it fills a gap at the end."""

ON_RAY_S: Final = 60.0
"""Of a file with tests on Ray that is not written down yet."""


@cache
def share(path: str) -> str:
    """Of a file, by the fixture that it names: the standing cluster's, or its own."""
    return STANDING if ": Standing" in _text(path) else path


def order(
    seconds: Mapping[str, float],
    share: Callable[[str], str],
    is_on_ray: Callable[[str], bool],
) -> Callable[[str], float]:
    """What to sort files by, so that the longest share is the first.

    Args:
        seconds: of each file that was measured.
        share: of a file.
        is_on_ray: of a file that was not measured.
    """
    shares: defaultdict[str, float] = defaultdict(float)
    for path, taken in seconds.items():
        shares[share(path)] += taken
    return lambda path: -shares.get(share(path), ON_RAY_S if is_on_ray(path) else 0.0)


@cache
def _text(path: str) -> str:
    """Empty for a file that has another name now."""
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _file(nodeid: str) -> str:
    return nodeid.split("::")[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    """For ``make durations``."""
    parser.addoption(
        "--write-durations", action="store_true", help=f"write {DURATIONS.name}: what files take"
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """The process that hears of all tests writes.

    With ``--reruns`` (`.ci/run`) each process says over a socket what becomes of a test, in two
    small writes: by Nagle's algorithm the second waits for an acknowledgement that is delayed by
    40 ms, which for twelve thousand tests is four minutes of the whole.
    """
    said_by = getattr(getattr(config, "failures_db", None), "sock", None)
    if isinstance(said_by, socket.socket):
        said_by.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if config.getoption("--write-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Durations(DURATIONS))


class Durations:
    """What each file takes, written down in the end. Mutable state: its seconds so far."""

    def __init__(self, to: Path) -> None:
        self._to = to
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Set-up, call and end of a test."""
        self._seconds[_file(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        """In whole seconds, by name: a diff shows what became longer."""
        found = {
            path: max(1, round(taken))
            for path, taken in sorted(self._seconds.items())
            if taken >= LEAST_S
        }
        self._to.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those of the standing cluster follow each other: it ends with the last. Where processes share,
    the long files begin.
    """
    items.sort(key=lambda item: "standing" not in getattr(item, "fixturenames", ()))
    if hasattr(config, "workerinput"):
        seconds = json.loads(DURATIONS.read_text(encoding="utf-8"))
        before = order(seconds, share, lambda path: "mark.ray" in _text(path))
        items.sort(key=lambda item: before(_file(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process has one share at a time, whole."""
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share(_file(nodeid))

    config.option.loadscopereorder = False
    return Shares(config, log)
