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
from typing import Final
from urllib.parse import quote

from deployments.rayenv import MARK

FOLDER: Final = "bells"
"""In the state folder."""

_BELOW: Final = ("/versions/1", "/infer", "/ready")
"""What a call's path may have below the function's prefix."""


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


def ring(path: str) -> float | None:
    """A call for this path waits. Only bells that a policy has hung up are rung, so callers cannot make files.

    Args:
        path: of the URL, decoded.

    Returns:
        how long the call may wait, in seconds; None where no bell hangs.
    """
    bell = _path(_prefix(path))
    if bell is None:
        return None
    try:
        os.utime(bell)
        return float(bell.read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def hangs(path: str) -> bool:
    """Whether a function of this path still has a bell: one that is deleted has none, and nobody will come to those who wait for it."""
    bell = _path(_prefix(path))
    return bell is not None and bell.exists()


def take_down(name: str) -> None:
    """The application has been deleted: who waits for it looks who serves its prefix now."""
    home = os.environ.get(MARK, "")
    for bell in Path(home, FOLDER).glob("*") if home else ():
        with suppress(OSError):
            if bell.read_text(encoding="utf-8").split()[1:] == [name]:
                bell.unlink()


def _prefix(path: str) -> str:
    for tail in reversed(_BELOW):
        path = path.removesuffix(tail)
    return path


def _path(prefix: str) -> Path | None:
    home = os.environ.get(MARK, "")
    return Path(home, FOLDER, quote(prefix, safe="")) if home else None
