"""What is written about a function, in files: its logs, and the scaling decisions about it.

Ray keeps two output files for each replica, and the last full ones of each; ``merge_logs`` merges
their records by time. Decisions are a line of JSON each, ``{"at", "function", "why", ...}``; a full
file is kept once more under another name, then overwritten.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from deployments.ray_support.environment import MARK
from deployments.ray_support.texts import (
    HEAD_BYTES,
    OUTPUT_FILES,
    is_rays_line,
    names_an_actor,
    names_replica,
    read_output_name,
    read_record_head,
)

POLL_S: Final = 0.2

SHORT_BYTES: Final = 64 << 10
"""Of a file that is read at once."""


Whose = Literal["function", "shared", "other", "unsaid", "lost"]
"""Whose process it is, by what its output files begin with: the function's own, a host's, another
one's; they do not say it, or not any more. The records themselves name their function.
"""


@dataclass(frozen=True, slots=True)
class LogSources:
    """The files with a function's records.

    Attributes:
        folder: a session's log folder.
        name: of the function, and of its application where it has one.
        hosts: names of the shared hosts' applications, which may have served it.
        runs: what ``wakeful run`` wrote, which may have served it.

    Mutable state: ``_whose`` (by process, as of the last look at the folder).
    """

    folder: Path
    name: str
    hosts: tuple[str, ...] = ()
    runs: tuple[Path, ...] = ()
    _whose: dict[str, Whose] = field(default_factory=dict, init=False, repr=False, compare=False)

    def files(self) -> dict[Path, int]:
        """The output files of all these, a full one before the one that goes on, and the present
        length of each. A folder of a cluster has thousands of files, and a page looks each second:
        it is listed once, and what a process has said of itself is not read again.
        """
        processes: dict[str, list[Path]] = {}
        for path in self.folder.glob(OUTPUT_FILES):
            processes.setdefault(_process_of(path), []).append(path)
        whose = {process: self._find_whose(process, paths) for process, paths in processes.items()}
        self._whose.clear()
        self._whose.update(whose)
        replicas = [
            path
            for process, paths in processes.items()
            if whose[process] in ("function", "shared", "lost")
            for path in paths
        ]
        sizes = {path: _size(path) for path in (*sorted(replicas, key=_age), *self.runs)}
        return {path: size for path, size in sizes.items() if size is not None}

    def is_shared(self, path: Path) -> bool:
        """Whether one of these ``files`` has, or may have, records of other functions too."""
        return path in self.runs or self._whose.get(_process_of(path)) in ("shared", "lost")

    def _find_whose(self, process: str, paths: Sequence[Path]) -> Whose:
        known = self._whose.get(process, "unsaid")
        if known not in ("unsaid", "lost"):
            return known
        # Ray writes it once, into the first file of each stream
        heads = b"".join(map(_head, paths))
        if names_replica(heads, (self.name,)):
            return "function"
        if names_replica(heads, self.hosts):
            return "shared"
        if names_an_actor(heads):
            return "other"
        return "lost" if any(map(_number, paths)) else "unsaid"


def merge_logs(sources: LogSources, files: Mapping[Path, int]) -> Iterator[str]:
    """The function's records in files up to the given lengths, in the order of their times; a
    traceback stays with its record.
    """
    records = [
        _records(path, size, sources.name if sources.is_shared(path) else None)
        for path, size in files.items()
    ]
    for _, record in heapq.merge(*records, key=lambda entry: entry[0]):
        yield record


def last_records(sources: LogSources, files: Mapping[Path, int]) -> list[str]:
    """The function's records at the ends of files of the given lengths, ``SHORT_BYTES`` of each, in
    the order of their times.
    """
    records = [
        record
        for path, size in files.items()
        for record in _records(
            path,
            size,
            sources.name if sources.is_shared(path) else None,
            max(0, size - SHORT_BYTES),
        )
    ]
    return [text for _, text in sorted(records, key=lambda record: record[0])]


def parse_record(record: str) -> dict[str, str]:
    """A record as plain data: ``at``, local time; ``kind``, ``OUT``, ``ERR`` or a level; ``text``.
    Of a line that belongs to a record before, ``at`` and ``kind`` are empty.
    """
    begins = read_record_head(record)
    if begins is None:
        return {"at": "", "kind": "", "text": record}
    head, _, text = record.partition(" -- ")
    return {
        "at": begins.at.replace(",", "."),
        "kind": head.partition(" ")[0],
        "text": text or record,
    }


def follow_logs(sources: LogSources, after: Mapping[Path, int]) -> Iterator[str]:
    """The function's lines after the given lengths as they are written, also by replicas that start
    later, and in files that get another name while they are read. Never ends by itself.
    """
    follower = LogFollower(sources, after)
    while True:
        yield from follower.read_new()
        time.sleep(POLL_S)


class LogFollower:
    """Reads what is written of a function.

    Args:
        after: lengths of files whose lines until then are not wanted.

    Mutable state: ``_read`` (by identity of a file: its number, and the length that was read),
    ``_is_its`` (by file: whether the last record in it is the function's).
    """

    def __init__(self, sources: LogSources, after: Mapping[Path, int]) -> None:
        self._sources = sources
        self._read = {
            path.stat().st_ino: (_number(path), length)
            for path, length in after.items()
            if path.exists()
        }
        self._is_its: dict[Path, bool] = {}

    def read_new(self) -> Iterator[str]:
        """The lines that have been written since the last question."""
        for path in self._sources.files():
            with suppress(FileNotFoundError), path.open("rb") as file:
                yield from self._new_lines(path, file)

    def _new_lines(self, path: Path, file: BinaryIO) -> Iterator[str]:
        is_shared = self._sources.is_shared(path)
        self._is_its.setdefault(path, not is_shared)
        identity = os.fstat(file.fileno()).st_ino
        number, length = self._read.get(identity, (0, 0))
        # a number of one and the same file grows, and so does its length: this is another, at its
        # place on the disk
        is_same = number <= _number(path) and length <= os.fstat(file.fileno()).st_size
        begin = length if is_same else 0
        file.seek(begin)
        for line in file:
            if not line.endswith(b"\n"):  # half a line: the rest comes with the next poll
                break
            begin += len(line)
            text = line.decode(errors="replace")
            if is_shared and (begins := read_record_head(text)):
                self._is_its[path] = begins.function == self._sources.name
            if self._is_its[path] and not is_rays_line(text):
                yield text.rstrip("\n")
        self._read[identity] = (_number(path), begin)


def _number(path: Path) -> int:
    """Of a full file, which Ray numbers anew each time that another is full; 0 of the one that goes
    on.
    """
    found = read_output_name(path.name)
    return found.number if found else 0


def _age(path: Path) -> tuple[str, int]:
    number = _number(path)
    return path.name.removesuffix(f".{number}"), -number


def _process_of(path: Path) -> str:
    found = read_output_name(path.name)
    return found.process if found else path.name


def _head(path: Path) -> bytes:
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(HEAD_BYTES)
    return b""


def _size(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return None


def _records(path: Path, size: int, only: str | None, begin: int = 0) -> Iterator[tuple[str, str]]:
    """Time and text of each record; with ``only`` those of that function.

    Args:
        begin: of the first line that is read, or within the one before it.
    """
    stamp, function, lines = "", "", list[str]()
    for line in chain(_lines(path, size, begin), [None]):
        begins = read_record_head(line) if line is not None else None
        if lines and (begins or line is None):
            if only in (None, function):
                yield stamp, "\n".join(lines)
            lines = []
        if begins:
            stamp, function = begins
        if line is not None and not is_rays_line(line):
            lines.append(line)


def _lines(path: Path, size: int, begin: int = 0) -> Iterator[str]:
    """The lines of a file until a length. A long one stays open and is read line by line; there
    may be more short ones than a process may have open. No other end of a line counts: a text that
    a caller sent may have those that Unicode has.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        if begin > 0:
            file.seek(begin - 1)
            file.readline()
            size = max(0, size - file.tell())
        lines = _read_lines(file, size)
        if size <= SHORT_BYTES:
            lines = iter(list(lines))
            file.close()
        for line in lines:
            yield line.removesuffix(b"\n").decode(errors="replace")


def _read_lines(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Of so many bytes: what comes behind them was written since."""
    for line in file if size else ():
        yield line[:size]
        size -= len(line)
        if size <= 0:
            return


DECISIONS_FILE: Final = "decisions.jsonl"
"""In the state folder."""

MAX_BYTES: Final = 1 << 20
"""Of a file: about 5,000 decisions."""


class DecisionLog:
    """Appends decisions. They are rare, so the file is opened for each one: several processes write
    it, no process holds it open, and each may end at any time.

    Args:
        path: the file; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @classmethod
    def of_this_cluster(cls) -> DecisionLog:
        """In the state folder of this process's cluster; writes nothing on a cluster that Wakeful
        did not start.
        """
        home = os.environ.get(MARK, "")
        return cls(Path(home, DECISIONS_FILE) if home else None)

    def write(self, function: str, why: str, **numbers: Any) -> None:
        """Writes one decision, now; ``numbers`` are plain JSON data. A full disk raises nothing:
        the handler reports it on standard error.
        """
        if self._path is None:
            return
        at = round(time.time(), 3)
        line = {"at": at, "function": function, "why": why, **numbers}
        with closing(
            RotatingFileHandler(
                self._path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", delay=True
            )
        ) as handler:
            text = json.dumps(line, ensure_ascii=False)
            handler.handle(logging.makeLogRecord({"msg": text}))

    def about(self, function: str) -> list[dict[str, Any]]:
        """The latest decisions about a function, oldest first; none where nothing is written."""
        return read_decisions(self._path.parent, function) if self._path is not None else []


def read_decisions(home: Path, function: str, most: int = 50) -> list[dict[str, Any]]:
    """The latest decisions about a function, oldest first, from the file and the one before it.
    What a full disk has left of a line is none, and a file may be renamed while it is read.
    """
    texts: list[bytes] = []
    for path in (home / f"{DECISIONS_FILE}.1", home / DECISIONS_FILE):
        with suppress(FileNotFoundError):
            texts.append(path.read_bytes())
    written = json.dumps({"function": function}, ensure_ascii=False)[1:-1].encode()
    found: list[dict[str, Any]] = []
    for line in chain.from_iterable(_lines_with(written, text) for text in reversed(texts)):
        with suppress(ValueError, KeyError, TypeError):
            decision = json.loads(line)
            if decision["function"] == function:
                found.append(decision)
        if len(found) == most:
            break
    return found[::-1]


def _lines_with(searched: bytes, text: bytes) -> Iterator[bytes]:
    """The lines with these bytes, the last one first. To parse all of two full files takes 60 ms,
    of the catalogue, which any client may ask.
    """
    end = len(text)
    while (place := text.rfind(searched, 0, end)) >= 0:
        begin, stop = text.rfind(b"\n", 0, place) + 1, text.find(b"\n", place)
        yield text[begin : stop if stop >= 0 else len(text)]
        end = begin
