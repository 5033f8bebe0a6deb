"""A function's logs: Ray keeps two output files for each replica; a reader wants one story."""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

POLL_S: Final = 0.2

HEAD_BYTES: Final = 500
"""Ray writes within these whose file it is."""

_STAMP: Final = re.compile(r"^\w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (\S+)")
"""How Ray Serve and ``output`` begin a record: kind, date, milliseconds, whose it is; lines without it go on with the record above."""

_RAYS: Final = re.compile(r"^:(job_id|actor_name|task_name):")
"""Lines in which Ray says to itself whose output follows."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a function's records are.

    Attributes:
        folder: a session's log folder.
        name: the function's, and of its application where it has one.
        hosts: names of the applications that it may have been served by together with others.
    """

    folder: Path
    name: str
    hosts: tuple[str, ...] = ()

    def files(self) -> dict[Path, int]:
        """The output files of all their replicas, and how long each is now."""
        return {path: path.stat().st_size for path in sorted(self.folder.glob("worker-*.*")) if self._is_of(path, self.name, *self.hosts)}

    def is_shared(self, path: Path) -> bool:
        """Whether records about others stand in a file too."""
        return self._is_of(path, *self.hosts)

    def _is_of(self, path: Path, *applications: str) -> bool:
        head = _head(path)
        return any(f":actor_name:ServeReplica:{name}:".encode() in head for name in applications)


def merged(sources: Sources, files: Mapping[Path, int]) -> Iterator[str]:
    """The function's records in files up to the given lengths, in the order of their times; a traceback stays with its record."""
    records = [_records(path, size, sources.name if sources.is_shared(path) else None) for path, size in files.items()]
    for _, record in heapq.merge(*records, key=lambda stamped: stamped[0]):
        yield record


def follow(sources: Sources, after: Mapping[Path, int]) -> Iterator[str]:
    """The function's lines behind the given lengths as they are written, also by replicas that start later. Never ends by itself."""
    read = dict(after)
    is_its: dict[Path, bool] = {}
    while True:
        for path in sources.files():
            is_its.setdefault(path, not sources.is_shared(path))
            with path.open("rb") as file:
                file.seek(read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):  # half a line: the rest comes with the next look
                        break
                    read[path] = read.get(path, 0) + len(line)
                    text = line.decode(errors="replace")
                    if (begins := _STAMP.match(text)) and sources.is_shared(path):
                        is_its[path] = begins[2] == sources.name
                    if is_its[path] and not _RAYS.match(text):
                        yield text.rstrip("\n")
        time.sleep(POLL_S)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _records(path: Path, size: int, only: str | None) -> Iterator[tuple[str, str]]:
    """Time and text of each record; ``only`` those that are stamped with that name."""
    stamp, whose, lines = "", "", list[str]()
    with path.open("rb") as file:
        text = file.read(size).decode(errors="replace")
    for line in [*text.splitlines(), None]:
        begins = _STAMP.match(line) if line is not None else None
        if lines and (begins or line is None):
            if only in (None, whose):
                yield stamp, "\n".join(lines)
            lines = []
        if begins:
            stamp, whose = begins[1], begins[2]
        if line is not None and not _RAYS.match(line):
            lines.append(line)
