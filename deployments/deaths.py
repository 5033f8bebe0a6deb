"""Processes that died with functions in them: each leaves a witness's file, and the next one to start tells the owner of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deployments.home import default
from runtime.witness import Condemned, Witness, register


def folder() -> Path:
    """Where witnesses keep their files: in the state folder, which every process of this machine's cluster finds."""
    return default() / "hosts"


def witness(threads: int) -> Witness:
    """This process's, for so many worker threads."""
    return Witness(folder(), slots=threads)


def condemned() -> Condemned:
    """The rows that one process after another died of; for this process's calls."""
    return Condemned(folder())


def found() -> list[dict[str, Any]]:
    """The deaths that the owner has not been told of, as plain data: ``key``, ``pid``, ``culprits``, ``suspects``, ``words`` and more."""
    return [asdict(death) for death in register.last_words(folder())]


def told(deaths: Iterable[dict[str, Any]]) -> None:
    """The owner knows of them now."""
    for death in deaths:
        register.told(folder(), death["key"])
