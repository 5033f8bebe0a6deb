"""The file of one function's recorded calls, in parts: ``NAME.jsonl``, which is written, and the
full ones before it, ``NAME.jsonl.1`` to ``NAME.jsonl.3``, the last the oldest.

Rules. A part holds a quarter of what may be kept, of calls, of bytes and of time; the oldest goes
where there would be five, and where its first call is older than may be kept. So at most what is
declared is kept, and three quarters of it at least. A part begins with the line of the format.

Several processes of a machine may write: each appends whole lines under a lock of the file, looks
what others have written since, and opens what has the name now. A process that died, and a disk
that was full, may have left half a line at the end: it is cut off before the next is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import logging
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson

from runtime.declaration.sections import CaptureSpec
from runtime.library.capture.lines import FORMAT, header_line

logger = logging.getLogger("wakeful.capture")

PARTS: Final = 4
"""That are kept, the one that is written included."""

SUFFIX: Final = ".jsonl"

READ_BYTES: Final = 1 << 20

HEAD_BYTES: Final = 4096
"""Within which the first line ends."""

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

_NEWLINE: Final = b"\n"


def file_of(folder: Path, function: str) -> Path:
    """Return the file of a function's calls."""
    return folder / f"{function}{SUFFIX}"


def make_folder(folder: Path) -> None:
    """Make the folder, for this user alone.

    Raises:
        OSError: it cannot be made, or is another user's.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o777 != FOLDER_MODE:
        folder.chmod(FOLDER_MODE)


class CaptureFile:
    """Appends to the file of one function. Used by one thread.

    Args:
        version: of the function, for the first line.
        clock: seconds since the epoch.

    Attributes:
        path: of the part that is written.

    Mutable state: ``_descriptor`` (of the part that had the name when it was opened; -1: none is
    open), and of that part as far as it was read: ``_size``, ``_lines`` (calls) and ``_began``.
    """

    def __init__(
        self,
        folder: Path,
        function: str,
        spec: CaptureSpec,
        version: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = file_of(folder, function)
        self.spec = spec
        self.version = version
        self._function = function
        self._clock = clock
        self._descriptor = -1
        self._size = self._lines = 0
        self._began = 0.0

    def append(self, lines: Sequence[bytes]) -> int:
        """Write whole lines; return how many could not be written.

        A full disk, or a folder that is gone, raises nothing: it is logged by the caller's count.
        """
        written = 0
        try:
            while written < len(lines):
                with self._locked():
                    written += self._append_to_part(lines[written:])
        except OSError as error:
            logger.warning("%s: calls are not recorded: %s", self.path, error.strerror or error)
        return len(lines) - written

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # One part.

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the part that has the name, and know what is in it."""
        while True:
            if self._descriptor < 0:
                self._open()
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if self._has_name():
                break
            self.close()
        try:
            self._look()
            yield
        finally:
            if self._descriptor >= 0:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open(self) -> None:
        make_folder(self.path.parent)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, FILE_MODE)
        self._size = self._lines = 0
        if os.fstat(self._descriptor).st_mode & 0o777 != FILE_MODE:
            os.fchmod(self._descriptor, FILE_MODE)

    def _has_name(self) -> bool:
        try:
            named = self.path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._descriptor))

    def _look(self) -> None:
        """Read what was written since the last look, by this process or another; cut off what is
        no whole line; begin an empty part.
        """
        size = os.fstat(self._descriptor).st_size
        if size < self._size:  # it was emptied
            self._size = self._lines = 0
        end = self._size
        while end < size:
            read = os.pread(self._descriptor, min(READ_BYTES, size - end), end)
            if not read:
                break
            if not self._size and not end:
                head = _parse_head(read)
                self._began = self._clock() if head is None else head[0]
            self._lines += read.count(_NEWLINE)
            end += len(read)
        if size > self._size:
            whole = self._whole_end(size)
            if whole < size:
                os.ftruncate(self._descriptor, whole)
            self._size = whole
        if not self._size:
            self._begin()

    def _whole_end(self, size: int) -> int:
        """Return where the last whole line ends."""
        end = size
        while end > 0:
            start = max(0, end - READ_BYTES)
            found = os.pread(self._descriptor, end - start, start).rfind(_NEWLINE)
            if found >= 0:
                return start + found + 1
            end = start
        return 0

    def _begin(self) -> None:
        self._began, self._lines = self._clock(), 0
        self._write(
            header_line(self._function, self.version, round(self._began, 6), self.spec.keep_s)
        )
        self._lines = 1

    def _append_to_part(self, lines: Sequence[bytes]) -> int:
        """Write as many of these as the part takes, where it takes any; else begin another."""
        calls, size = self._lines - 1, self._size
        most_calls = self.spec.keep // PARTS
        most_bytes = self.spec.keep_mb * 1_000_000 // PARTS
        is_old = self._clock() - self._began > self.spec.keep_s / PARTS
        if calls and (calls >= most_calls or size >= most_bytes or is_old):
            self._rotate()
            return 0
        count = 0
        for line in lines[: most_calls - calls]:
            if count and size + len(line) > most_bytes:
                break
            size += len(line)
            count += 1
        self._write(b"".join(lines[:count]))
        self._lines += count
        return count

    def _write(self, text: bytes) -> None:
        """Write all of it or nothing.

        Raises:
            OSError: the disk is full.
        """
        rest = memoryview(text)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(text)

    def _rotate(self) -> None:
        """Give the full part its number, and every other the next; the oldest goes."""
        for number in range(PARTS - 1, 0, -1):
            older = self.path if number == 1 else _numbered(self.path, number - 1)
            with contextlib.suppress(FileNotFoundError):
                older.replace(_numbered(self.path, number))
        for path in parts_before(self.path):  # what another version has kept
            if _number(path) >= PARTS:
                path.unlink(missing_ok=True)
        self.close()


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _number(path: Path) -> int:
    return int(path.name.removesuffix(".gz").rpartition(".")[2])


def parts_before(path: Path) -> list[Path]:
    """Return the full parts of a file, oldest first; what was compressed since is one too."""
    start = f"{path.name}."
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.startswith(start)]
    except OSError:
        return []
    parts = [name for name in names if name[len(start) :].removesuffix(".gz").isdecimal()]
    return sorted((path.with_name(name) for name in parts), key=_number, reverse=True)


def delete_expired(folder: Path, keep_s: Mapping[str, float], now: float) -> None:
    """Delete the parts whose calls are older than may be kept: as is declared, or as each says of
    itself where its function is declared no longer.

    Args:
        keep_s: seconds by function.
        now: seconds since the epoch.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return
    for name in names:
        found = _PART.fullmatch(name)
        head = _read_head(folder / name) if found else None
        if found is None or head is None:
            continue
        began, own_keep_s = head
        if began + keep_s.get(found[1], own_keep_s) < now:
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)


_PART: Final = re.compile(r"(.+)\.jsonl(?:\.\d+(?:\.gz)?)?")


def _read_head(path: Path) -> tuple[float, float] | None:
    """Return when a part began, and for how many seconds its calls may be kept; None: it does not
    say.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse_head(file.read(HEAD_BYTES))
    except (OSError, EOFError, zlib.error):
        return None


def _parse_head(text: bytes) -> tuple[float, float] | None:
    line, _, _ = text.partition(_NEWLINE)
    try:
        head = orjson.loads(line)
        return (float(head["began"]), float(head["keep_s"])) if FORMAT in head else None
    except (ValueError, KeyError, TypeError):
        return None
