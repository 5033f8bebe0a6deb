"""Files in an ``example``: ``image: !file sample.png`` in YAML, in plain data ``{"!file":
"sample.png"}``, which YAML readers that know no such tag take as well (``serve deploy``). In the
place of a value, at any depth, or of the whole example. What a file stands for there,
``runtime.graph.requests.examples`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

KeyPath = tuple[str | int, ...]
"""Keys and positions, from the example on."""

FILE_TAG: Final = "!file"


def file_named_by(value: Any) -> str | None:
    """The path that stands in the place of a value, as written; None: it is a value."""
    if isinstance(value, dict) and len(value) == 1:
        path = value.get(FILE_TAG)
        return path if isinstance(path, str) else None
    return None


def find_files(example: Any) -> Iterator[tuple[KeyPath, str]]:
    """The place of each file in an example, and its path as written."""
    found: list[tuple[KeyPath, str]] = []

    def note(place: KeyPath, path: str) -> None:
        found.append((place, path))

    replace_files(example, note)
    yield from found


def replace_files(value: Any, read: Callable[[KeyPath, str], Any], place: KeyPath = ()) -> Any:
    """An example with what ``read`` returns, given its place and path, for each file."""
    path = file_named_by(value)
    if path is not None:
        return read(place, path)
    if isinstance(value, dict):
        return {key: replace_files(inner, read, (*place, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [replace_files(inner, read, (*place, index)) for index, inner in enumerate(value)]
    return value
