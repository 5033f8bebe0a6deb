"""A function's logs: Ray keeps two output files for each replica; a reader wants one story."""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

POLL_S: Final = 0.2

HEAD_BYTES: Final = 500
"""Ray writes within these whose file it is."""

_STAMP: Final = re.compile(r"^\w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ")
"""How Ray Serve and ``output`` begin a record: kind, date, milliseconds; lines without it go on with the record above."""

_RAYS: Final = re.compile(r"^:(job_id|actor_name|task_name):")
"""Lines in which Ray says to itself whose output follows."""


def of(folder: Path, name: str) -> dict[Path, int]:
    """The output files of an application's replicas in a session's log folder, and how long each is now."""
    owner = f":actor_name:ServeReplica:{name}:".encode()
    return {path: path.stat().st_size for path in sorted(folder.glob("worker-*.*")) if owner in _head(path)}


def merged(files: Mapping[Path, int]) -> Iterator[str]:
    """The records of all files, up to the given lengths, in the order of their times; a traceback stays with its record."""
    for _, record in heapq.merge(*(_records(path, size) for path, size in files.items()), key=lambda stamped: stamped[0]):
        yield record


def follow(folder: Path, name: str, after: Mapping[Path, int]) -> Iterator[str]:
    """Lines behind the given lengths as they are written, also by replicas that start later. Never ends by itself."""
    read = dict(after)
    while True:
        for path in of(folder, name):
            with path.open("rb") as file:
                file.seek(read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):  # half a line: the rest comes with the next look
                        break
                    read[path] = read.get(path, 0) + len(line)
                    if not _RAYS.match(text := line.decode(errors="replace")):
                        yield text.rstrip("\n")
        time.sleep(POLL_S)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _records(path: Path, size: int) -> Iterator[tuple[str, str]]:
    stamp, lines = "", list[str]()
    with path.open("rb") as file:
        text = file.read(size).decode(errors="replace")
    for line in text.splitlines():
        if _RAYS.match(line):
            continue
        begins = _STAMP.match(line)
        if begins and lines:
            yield stamp, "\n".join(lines)
            lines = []
        if begins:
            stamp = begins[1]
        lines.append(line)
    if lines:
        yield stamp, "\n".join(lines)
