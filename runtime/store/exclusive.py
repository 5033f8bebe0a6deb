"""One pull at a time in a models folder, among all processes of a machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import StoreError

POLL_S = 0.2
TIMEOUT_S = 1200.0
"""Longer than one wheel takes at most."""


@contextmanager
def exclusively(folder: Path, *, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Holds ``folder`` until left; the system lets go of it when the process dies, so no stale lock is possible.

    On Windows nothing is held: files still appear whole, two pulls only do the same work.

    Raises:
        StoreError: another pull holds it for longer than ``timeout_s``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl  # does not exist on Windows

    with (folder / ".pull").open("w") as file:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(f"another `wakeful models pull` is at work in {folder}; wait for it or end it.") from None
                time.sleep(POLL_S)
        yield
