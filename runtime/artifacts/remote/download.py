"""Brings a file here: continued where it was interrupted, within bounds of size and time.

What has come lies in two files until it is whole, so that the next attempt, of this process or of
another, goes on with it:

    <models>/.fetched/.parts/<hash of the address>         its first bytes
    <models>/.fetched/.parts/<hash of the address>.json    the mark of the file that they are of

An attempt goes on only with the file of the same mark; a file that has another is begun anew. One
process at a time works here: the caller holds the folder of models.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from runtime.artifacts.remote.objects import Interrupted, OpenedObject, RemoteObject
from runtime.errors import StoreError

PARTS: Final = ".parts"

MAX_MODEL_BYTES: Final = 2 << 30
"""Of an ONNX file: more is no protobuf message. Larger models have their weights beside it."""

MAX_UNTOLD_BYTES: Final = 2 << 30
"""Of a file whose size the other side does not say."""

FREE_BYTES: Final = 256 << 20
"""What a download leaves free on the disk."""

RETRY_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits before further attempts; those after an attempt that brought much begin anew."""

MUCH_BYTES: Final = 64 << 10

MAX_ATTEMPTS: Final = 100
"""In all, however much each of them brought."""

MAX_WAIT_S: Final = 60.0
"""Longest wait that the other side may ask for."""

WINDOW_S: Final = 60.0
MIN_WINDOW_BYTES: Final = 256 << 10
"""What must come in each window: 4 KiB/s."""

STALE_S: Final = 7 * 86400
"""After so long without an attempt, what has come is removed."""

TOLD_EVERY_S: Final = 5.0

Say = Callable[[str], object]
"""Told in words how far a download is, every few seconds, and why it waits."""


def retry_wait_s(failures: int, asked_s: float) -> float | None:
    """How long to wait before the next attempt; None: there is none.

    Args:
        failures: attempts in a row that brought little.
        asked_s: what the other side asks for; 0: nothing.
    """
    if failures > len(RETRY_S) or asked_s > MAX_WAIT_S:
        return None
    return max(asked_s, RETRY_S[max(0, failures - 1)])


def size_refusal(size_bytes: int | None, missing: int, limit: int | None, free: int) -> str:
    """Why a file is not fetched, of so many bytes; empty if it is.

    Args:
        size_bytes: as the other side says it; None: it does not.
        missing: those that are not here yet.
        limit: the most it may have; None: what the disk holds.
        free: bytes of the disk.
    """
    if limit is not None and (size_bytes or 0) > limit:
        return (
            f"it has {size_bytes} bytes, and an ONNX file at most {limit}. Export the model with"
            " its weights in a file beside it."
        )
    if missing + FREE_BYTES > free:
        return (
            f"{missing / 1e6:.0f} MB are to come and {free / 1e6:.0f} MB are free. Free some space,"
            " or set WAKEFUL_MODELS to a folder on a larger disk."
        )
    return ""


class Pace:
    """Whether bytes come fast enough. Mutable state: the window that is counted now."""

    def __init__(self, now: float) -> None:
        self._since, self._bytes = now, 0

    def is_too_slow(self, count: int, now: float) -> bool:
        """Count bytes; whether the window that has ended with them brought too few."""
        self._bytes += count
        if now - self._since < WINDOW_S:
            return False
        is_slow = self._bytes * WINDOW_S < MIN_WINDOW_BYTES * (now - self._since)
        self._since, self._bytes = now, 0
        return is_slow


class PartialFile:
    """What has come of a file.

    Args:
        folder: of fetched models.
        name: of the file: its address.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / PARTS / hashlib.sha256(name.encode()).hexdigest()[:32]
        self._note = self.path.with_suffix(".json")

    @property
    def size_bytes(self) -> int:
        """How many bytes are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def next_byte(self) -> tuple[int, str]:
        """From which byte to go on, and the mark of the file that those here are of; 0 without one.
        The last byte is asked for again: beyond the end of a file that is here whole there is none.
        """
        try:
            mark = json.loads(self._note.read_text())["mark"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0, ""
        is_known = isinstance(mark, str) and mark and self.size_bytes
        return (self.size_bytes - 1, mark) if is_known else (0, "")

    def begin_anew(self, mark: str) -> None:
        """Nothing is here of a file of this mark."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._note.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        self._note.write_text(json.dumps({"mark": mark}))

    def remove(self) -> None:
        """It is in its place, or of no use."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def remove_stale_parts(folder: Path, now: float) -> None:
    """Removes what was not gone on with for a week, seconds since the epoch."""
    for path in (folder / PARTS).glob("*"):
        if path.stat().st_mtime < now - STALE_S:
            path.unlink(missing_ok=True)


def download(
    remote: RemoteObject,
    part: PartialFile,
    name: str,
    *,
    limit: int | None,
    say: Say,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """The whole file, at ``part.path``.

    Args:
        name: its address, for messages.
        limit: the most bytes that it may have; None: what the disk holds.

    Raises:
        StoreError: it is not there, too large, or did not come in all attempts; what has come is
            kept for the next pull.
    """
    failures = 0
    for _ in range(MAX_ATTEMPTS):
        (begin, mark), before = part.next_byte(), part.size_bytes
        try:
            with remote.open(begin, mark) as opened:
                if opened.begin == 0:
                    part.begin_anew(opened.mark)
                    before = 0
                _receive(opened, part, name, limit, say, clock)
            return part.path
        except Interrupted as error:
            failures = 1 if part.size_bytes >= before + MUCH_BYTES else failures + 1
            wait_s = retry_wait_s(failures, error.after_s)
            if wait_s is None:
                raise StoreError(_gave_up(name, error.reason)) from error
            say(f"{error.reason}; again in {wait_s:g} s")
        sleep(wait_s)
    raise StoreError(_gave_up(name, f"it broke off {MAX_ATTEMPTS} times"))


def _receive(
    opened: OpenedObject,
    part: PartialFile,
    name: str,
    limit: int | None,
    say: Say,
    clock: Callable[[], float],
) -> None:
    have, size = opened.begin, opened.size_bytes
    free = shutil.disk_usage(part.path.parent).free
    if why := size_refusal(size, max(0, (size or 0) - have), limit, free):
        part.remove()
        raise StoreError(f"{name}: {why}")
    most = size if size is not None else min(limit or MAX_UNTOLD_BYTES, have + free - FREE_BYTES)
    pace, told = Pace(clock()), clock()
    with part.path.open("ab") as file:
        file.truncate(have)
        for chunk in opened.chunks:
            have += len(chunk)
            if have > most:
                file.close()
                part.remove()
                raise StoreError(
                    f"{name}: more than {most} bytes came"
                    f"{', which it was said to have' if size is not None else ''}. Nothing was"
                    " kept. Ask for it elsewhere, or tell the operator of that server."
                )
            file.write(chunk)
            now = clock()
            if pace.is_too_slow(len(chunk), now):
                raise Interrupted(f"less than {MIN_WINDOW_BYTES >> 10} KiB came in {WINDOW_S:g} s")
            if now - told >= TOLD_EVERY_S:
                told = now
                say(f"{have / 1e6:.1f}{f' of {size / 1e6:.1f}' if size else ''} MB are here")
    if size is not None and have < size:
        raise Interrupted(f"it ended after {have} of {size} bytes")


def _gave_up(name: str, reason: str) -> str:
    return (
        f"{name}: {reason}. Check the network and that server; `wakeful models pull` goes on with"
        " what has come."
    )
