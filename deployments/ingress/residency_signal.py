"""What the catalogue tells the scaling policies of functions with deployments of their own: that a
function is pinned, or is to sleep now. Both run on the head node, the policies in Serve's
controller, which asks them at every tick: a file of the state folder each, whose presence says it.

On a cluster that is not ours there is no state folder, and nothing can be said.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from deployments.ray_support.environment import MARK

PINNED: Final = "pinned"
SLEEPING: Final = "sleeping"
"""Folders in the state folder."""


def is_available() -> bool:
    """Whether policies can be told."""
    return bool(os.environ.get(MARK))


def is_pinned(name: str) -> bool:
    """Whether a function is to have a replica, with or without calls."""
    return _is_set(PINNED, name)


def is_to_sleep(name: str) -> bool:
    """Whether a function is to have none as soon as it is idle."""
    return _is_set(SLEEPING, name)


def set_pinned(names: Collection[str]) -> None:
    """These functions are pinned, and no others. Blocks, for no longer than a disk does."""
    _set(PINNED, names)


def set_sleeping(names: Collection[str]) -> None:
    """These functions are to sleep now, and no others. Blocks likewise."""
    _set(SLEEPING, names)


def _is_set(folder: str, name: str) -> bool:
    home = os.environ.get(MARK, "")
    return bool(home) and Path(home, folder, name).exists()


def _set(folder: str, names: Collection[str]) -> None:
    home = os.environ.get(MARK, "")
    if not home:
        return
    path = Path(home, folder)
    present = {file.name for file in path.iterdir()} if path.is_dir() else set()
    if names:
        path.mkdir(exist_ok=True)
    for name in set(names) - present:
        (path / name).touch()
    for name in present - set(names):
        (path / name).unlink(missing_ok=True)
