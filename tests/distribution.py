"""How ``pytest -n 2`` shares the tests: one process has all that use the standing cluster, so that there
is one; the other begins with those that start clusters of their own; then both take file by file.

(xdist has groups by a mark, but of pytest 9.2's ids it does not see them.)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SHARES = ("standing cluster", "clusters of their own")


@cache
def share(path: str) -> str:
    """Of a file, by the fixture and the mark that it names; its own path, if it has neither."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if "standing: Standing" in text:
        return SHARES[0]
    return SHARES[1] if "mark.ray" in text else path


def _order(item: pytest.Item) -> int:
    found = share(item.nodeid.split("::")[0])
    return SHARES.index(found) if found in SHARES else len(SHARES)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long ones begin."""
    if hasattr(config, "workerinput"):
        items.sort(key=_order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process has one share at a time, whole."""
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share(nodeid.split("::")[0])

    config.option.loadscopereorder = False
    return Shares(config, log)
