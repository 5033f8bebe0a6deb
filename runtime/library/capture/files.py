"""The file of one function's recorded calls, in parts: ``NAME.jsonl``, which is written, and the
full ones before it, ``NAME.jsonl.1`` to ``NAME.jsonl.3``, the last the oldest.

Rules. A part holds a quarter of what may be kept, of calls, of bytes and of time; the oldest goes
where there would be five, and where its first call is older than may be kept. So at most what is
declared is kept, and three quarters of it at least. A part begins with the line of the format.

Several processes of a machine may write: each appends whole lines under a lock of the file, looks
what others have written since, and opens what has the name now. A process that died, and a disk
that was full, may have left half a line at the end: it is cut off before the next is written. What
is no capture, or another user's, is left as it is: nothing is recorded until it is moved away.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import logging
import math
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson

from runtime.declaration.sections import CaptureSpec
from runtime.library.capture.lines import FORMAT, PARTS, header_line, part_bytes

logger = logging.getLogger("wakeful.capture")

SUFFIX: Final = ".jsonl"
GZIP: Final = ".gz"

READ_BYTES: Final = 1 << 20

HEAD_BYTES: Final = 4096
"""Within which the first line ends."""

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

OTHERS_WRITE: Final = 0o022
"""Bits of a folder's mode: any file in it may be another's a moment later."""

SLACK_S: Final = 60.0
"""A part that begins so far in the future began before the clock was set back."""

WARN_S: Final = 60.0
"""Between two lines of log that say that a file cannot be written."""

_NEWLINE: Final = b"\n"

_HEAD_BEGINS: Final = b'{"%s":' % FORMAT.encode()


def file_of(folder: Path, function: str) -> Path:
    """Return the file of a function's calls."""
    return folder / f"{function}{SUFFIX}"


def make_folder(folder: Path) -> None:
    """Make the folder, for this user alone. One that is there stays as it is: it may have other
    files, which others read.

    Raises:
        OSError: it cannot be made, or others may write in it.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    if folder.stat().st_mode & OTHERS_WRITE:
        raise PermissionError(
            errno.EPERM,
            "others may write in the folder; name one below it, which is made for this user alone",
        )


class CaptureFile:
    """Appends to the file of one function. Used by one thread.

    Args:
        version: of the function, for the first line.
        clock: seconds since the epoch.

    Attributes:
        path: of the part that is written.

    Mutable state: ``_descriptor`` (of the part that had the name when it was opened; -1: none is
    open), and of that part as far as it was read: ``_size``, ``_lines`` (calls) and ``_began``;
    ``_warned``, when it last did.
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
        self._warned = -math.inf

    def append(self, lines: Sequence[bytes]) -> int:
        """Write whole lines; return how many could not be written: those that are longer than a
        part, and of a full disk, or a folder that is gone, all, which raises nothing.
        """
        most = part_bytes(self.spec) - HEAD_BYTES
        fitting = [line for line in lines if len(line) <= most]
        written = 0
        try:
            while written < len(fitting):
                with self._locked():
                    written += self._append_to_part(fitting[written:])
        except OSError as error:
            now = time.monotonic()
            if now - self._warned >= WARN_S:
                self._warned = now
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
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(self.path, flags, FILE_MODE)
        self._size = self._lines = 0
        status = os.fstat(self._descriptor)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is no file")
            if status.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to another user")
            if status.st_mode & 0o777 != FILE_MODE:
                os.fchmod(self._descriptor, FILE_MODE)
        except OSError:
            self.close()
            raise

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
        end, lines = self._size, 0
        while end < size:
            read = os.pread(self._descriptor, min(READ_BYTES, size - end), end)
            if not read:
                break
            if not end:
                self._began = self._read_beginning(read)
            lines += read.count(_NEWLINE)
            end += len(read)
        if size > self._size:
            whole = self._whole_end(size)
            if whole < size:
                os.ftruncate(self._descriptor, whole)
            self._size, self._lines = whole, self._lines + lines
        if not self._size:
            self._begin()

    def _read_beginning(self, text: bytes) -> float:
        """Return when the part that begins with this began.

        Raises:
            OSError: it is no capture, which must not be written to.
        """
        if (head := _parse_head(text)) is not None:
            return head[0]
        if _NEWLINE in text or not _HEAD_BEGINS.startswith(text[: len(_HEAD_BEGINS)]):
            raise OSError(errno.EEXIST, "there is a file that is no capture; move it away")
        return self._clock()  # not all of the first line was written

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
        most_calls, most_bytes = self.spec.keep // PARTS, part_bytes(self.spec)
        is_old = not -SLACK_S <= self._clock() - self._began <= self.spec.keep_s / PARTS
        if calls and (calls >= most_calls or is_old):
            self._rotate()
            return 0
        count = 0
        for line in lines[: most_calls - calls]:
            if size + len(line) > most_bytes:
                break
            size += len(line)
            count += 1
        if not count:  # an empty part has room for any
            self._rotate()
            return 0
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
        """Give the full part its number, and every other the next, compressed or not; the oldest
        goes.
        """
        for part in parts_before(self.path):
            number = _number(part)
            with contextlib.suppress(FileNotFoundError):
                if number >= PARTS - 1:
                    part.unlink()
                else:
                    part.replace(_numbered(self.path, number + 1, part.suffix))
        with contextlib.suppress(FileNotFoundError):
            self.path.replace(_numbered(self.path, 1))
        self.close()


def _numbered(path: Path, number: int, suffix: str = "") -> Path:
    return path.with_name(f"{path.name}.{number}{suffix if suffix == GZIP else ''}")


def _number(path: Path) -> int:
    return int(path.name.removesuffix(GZIP).rpartition(".")[2])


def parts_before(path: Path) -> list[Path]:
    """Return the full parts of a file, oldest first; what was compressed since is one too."""
    start = f"{path.name}."
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.startswith(start)]
    except OSError:
        return []
    parts = [name for name in names if name[len(start) :].removesuffix(GZIP).isdecimal()]
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
        with contextlib.suppress(OSError):
            if began > now + SLACK_S:
                began = _seen_since(folder / name, now)
            if began + keep_s.get(found[1], own_keep_s) < now:
                (folder / name).unlink(missing_ok=True)


def _seen_since(path: Path, now: float) -> float:
    """Return when a part that began in the future was seen first, which its time of change says
    from then on. The clock was wrong when it began, or it is now.

    Raises:
        OSError: the part is gone.
    """
    changed = path.stat().st_mtime
    if changed <= now:
        return changed
    os.utime(path, (now, now))
    return now


_PART: Final = re.compile(r"(.+)\.jsonl(?:\.\d+(?:\.gz)?)?")


def _read_head(path: Path) -> tuple[float, float] | None:
    """Return when a part began, and for how many seconds its calls may be kept; None: it does not
    say.
    """
    try:
        # to open one that waits for a writer would last for ever
        if not stat.S_ISREG(path.stat(follow_symlinks=False).st_mode):
            return None
        with gzip.open(path) if path.suffix == GZIP else path.open("rb") as file:
            return _parse_head(file.read(HEAD_BYTES))
    except (OSError, EOFError, zlib.error):
        return None


def _parse_head(text: bytes) -> tuple[float, float] | None:
    line, _, _ = text.partition(_NEWLINE)
    try:
        head = orjson.loads(line)
        return (float(head["began"]), float(head["keep_s"])) if FORMAT in head else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
