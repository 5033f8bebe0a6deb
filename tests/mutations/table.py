"""A table of changes: TOML, one ``[[change]]`` each."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


class TableError(ValueError):
    """A change cannot be made; says which, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Change:
    """One fault.

    Attributes:
        name: short, once in all tables.
        file: that is changed, from the root of the repository.
        breaks: what a user would lose.
        old: text that is in the file once.
        new: what stands there instead; empty: nothing.
        tests: what pytest is given, the nearest first; each is run until one fails.
        excuse: why no test can see it, or only one with Ray and which; empty: a test is to see it.
    """

    name: str
    file: str
    breaks: str
    old: str
    new: str
    tests: tuple[str, ...]
    excuse: str = ""

    def apply(self, text: str) -> str:
        """The changed text of the file.

        Raises:
            TableError: the old text is not in the file exactly once, nothing changes, or what comes
                of Python is none any more: any test would see that.
        """
        if self.old == self.new:
            raise TableError(f"{self.name}: old and new are the same.")
        count = text.count(self.old)
        if count != 1:
            raise TableError(
                f"{self.name}: its old text is in {self.file} {count} times. Write a part of the "
                "code as it is now that is there once; take the change out if its promise is gone."
            )
        changed = text.replace(self.old, self.new)
        if not self.file.endswith(".py"):
            return changed
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise TableError(f"{self.name}: {self.file} is no Python with it: {error}.") from None
        return changed


def read(path: Path) -> list[Change]:
    """The changes of a table.

    Raises:
        TableError: one lacks something, or has what no change has.
    """
    found: list[Change] = []
    for number, entry in enumerate(tomllib.loads(path.read_text(encoding="utf-8"))["change"], 1):
        entry["tests"] = tuple(entry.get("tests", ()))
        try:
            change = Change(**entry)
        except TypeError as error:
            raise TableError(f"{path.name}: change {number}: {error}") from None
        if not change.tests:
            raise TableError(f"{path.name}: {change.name}: it names no tests.")
        found.append(change)
    return found


def read_all(folder: Path = FOLDER) -> dict[str, list[Change]]:
    """Every table of a folder by its name.

    Raises:
        TableError: a name is there twice.
    """
    tables = {path.stem: read(path) for path in sorted(folder.glob("*.toml"))}
    names = [change.name for changes in tables.values() for change in changes]
    for name in names:
        if names.count(name) > 1:
            raise TableError(f"{name} is the name of two changes.")
    return tables
