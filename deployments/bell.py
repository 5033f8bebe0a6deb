"""A bell between two processes of the head node: a call waits for a function that has no replica, and its policy starts one.

Ray Serve's proxy holds such a call and reports it to the controller, where the policy is asked at every tick; from call to report it
takes up to half a second, as reports are of what was recorded before. The proxy's middleware (``edge``) rings at once, by touching a
file of the state folder; the policy sees that at its next tick. On another node, or a cluster that is not ours, nobody hears it, and
Ray's reports do the same a little later.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from deployments.rayenv import MARK

FOLDER: Final = "bells"
"""In the state folder."""


class Bell:
    """The policy's end.

    Args:
        prefix: the function's; empty where it is not known, and nothing is ever heard.
        request_timeout_s: how long its callers wait; the proxy knows no other way.
        name: the application's, by which it is taken down.

    Mutable state: when it was heard last (``_heard``).
    """

    def __init__(self, prefix: str, request_timeout_s: float, name: str = "") -> None:
        self._path = _path(prefix) if prefix else None
        if self._path is not None:
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(f"{request_timeout_s} {name}", encoding="utf-8")
        self._heard = self._rung()

    def rang(self) -> bool:
        """Whether somebody has rung since this was asked last."""
        before, self._heard = self._heard, self._rung()
        return self._heard != before

    def _rung(self) -> int:
        with suppress(OSError):
            return self._path.stat().st_mtime_ns if self._path is not None else 0
        return 0


class Rung(NamedTuple):
    """A bell that a call has rung.

    Attributes:
        timeout_s: how long the call may wait, in seconds.
        path: the bell's; it is taken down when what it belongs to is deleted, and then nobody will come to those who wait.
    """

    timeout_s: float
    path: Path


def ring(path: str) -> Rung | None:
    """A call for this path waits; the bell of the longest prefix is rung. Only bells that hang are, so callers cannot make files.

    Args:
        path: of the URL, decoded.

    Returns:
        None where no bell hangs: nothing of ours is served there.
    """
    prefix = path
    while prefix.strip("/"):
        bell = _path(prefix)
        with suppress(OSError, ValueError, IndexError):
            if bell is not None:
                os.utime(bell)
                return Rung(float(bell.read_text(encoding="utf-8").split()[0]), bell)
        prefix = prefix.rpartition("/")[0]
    return None


def take_down(name: str) -> None:
    """The application has been deleted: who waits for it looks who serves its prefix now."""
    home = os.environ.get(MARK, "")
    for bell in Path(home, FOLDER).glob("*") if home else ():
        with suppress(OSError):
            if bell.read_text(encoding="utf-8").split()[1:] == [name]:
                bell.unlink()


def _path(prefix: str) -> Path | None:
    home = os.environ.get(MARK, "")
    return Path(home, FOLDER, quote(prefix, safe="")) if home else None
