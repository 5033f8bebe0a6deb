"""A signal between two processes of the head node: a call waits for a function that has no replica,
and the function's scaling policy starts one.

Ray Serve's proxy holds such a call and reports it to the controller, where the policy runs at every
tick. From call to report it takes up to half a second, since reports are of what was recorded
before. The proxy's middleware (``middleware``) signals at once, by touching a file of the state
folder; the policy sees that at its next tick. On another node, or on a cluster that is not ours,
there is no signal, and Ray's reports do the same a little later.

The file also holds what may wait for the function (``ReplayTerms``), since the proxy knows nothing
else of it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from deployments.ray_support.environment import MARK

FOLDER: Final = "wake_signals"
"""In the state folder."""

SETTLED_S: Final = 1.0
"""A folder that changed less long ago is listed again: two changes may have one time stamp."""


@dataclass(frozen=True, slots=True)
class ReplayTerms:
    """What may wait for a function without a replica.

    Attributes:
        timeout_s: longest wait of a call, in seconds.
        max_body_bytes: of one call.
        max_calls: that wait at once.
        max_bytes: of their bodies together, except that one body always fits.
        replay: a call whose replica died with it may be sent again.
        name: the application's, by which the signal is removed.
    """

    timeout_s: float
    max_body_bytes: int
    max_calls: int
    max_bytes: int
    replay: bool = True
    name: str = ""


class WakeSignal:
    """The policy's end of the signal of one function.

    Args:
        prefix: the function's; empty where it is not known, and there is never a signal.
        terms: of the calls that wait there; None where they are not known.

    Mutable state: ``_seen``, the time stamp of the last signal that was seen.
    """

    def __init__(self, prefix: str, terms: ReplayTerms | None) -> None:
        self._path = _signal_path(prefix) if prefix and terms is not None else None
        if self._path is not None and terms is not None:
            _write(self._path, json.dumps(asdict(terms)))
        self._seen = self._read_stamp()

    def was_signalled(self) -> bool:
        """Whether a wake was requested since the last call of this method."""
        before, self._seen = self._seen, self._read_stamp()
        return self._seen != before

    def _read_stamp(self) -> int:
        with suppress(OSError):
            return self._path.stat().st_mtime_ns if self._path is not None else 0
        return 0


class WakeRequest(NamedTuple):
    """A wake that a call has requested.

    Attributes:
        prefix: the function's, or the host's.
        terms: of the calls that wait there.
        path: the signal's file. It is removed when the application is deleted: no replica will come
            then.
    """

    prefix: str
    terms: ReplayTerms
    path: Path


class WakeSignals:
    """The proxy's end: the signals of all functions, by prefix.

    Mutable state: ``_paths`` by prefix and ``_longest`` of the prefixes, as of the folder's time
    stamp ``_seen``.
    """

    def __init__(self) -> None:
        self._paths: Mapping[str, Path] = {}
        self._longest = 0
        self._seen = 0

    def request_wake(self, path: str) -> WakeRequest | None:
        """Signal that a call for this path waits: touch the signal of the longest prefix. Only
        signals that exist are touched, so clients cannot make files.

        A path costs no more than looking up as many prefixes as the longest known one has segments.

        Args:
            path: of the URL, as HAProxy compares it (``normalized_path``).

        Returns:
            None where there is no signal: nothing of ours is served there.
        """
        self._list_signals()
        prefix = path[: self._longest + 1]
        while prefix:
            signal = self._paths.get(prefix)
            if signal is not None:
                with suppress(OSError, ValueError, TypeError):
                    os.utime(signal)
                    return WakeRequest(prefix, _read_terms(signal), signal)
            prefix = prefix.rpartition("/")[0]
        return None

    def _list_signals(self) -> None:
        """List the folder if it has changed."""
        home = os.environ.get(MARK, "")
        stamp = 0
        with suppress(OSError):
            stamp = Path(home, FOLDER).stat().st_mtime_ns if home else 0
            if stamp == self._seen and time.time() - stamp / 1e9 > SETTLED_S:
                return
            self._paths = (
                {unquote(path.name): path for path in Path(home, FOLDER).iterdir()} if stamp else {}
            )
        if not stamp:
            self._paths = {}
        self._longest = max(map(len, self._paths), default=0)
        self._seen = stamp


def allows_replay(prefix: str) -> bool:
    """Whether calls of a prefix may be sent again; False if nothing of ours is known there."""
    path = _signal_path(prefix)
    with suppress(OSError, ValueError, TypeError):
        return path is not None and _read_terms(path).replay
    return False


def remove_signal(name: str) -> None:
    """Remove the signals of an application that has been deleted: calls that wait for it go to what
    serves their prefix now.
    """
    home = os.environ.get(MARK, "")
    for path in Path(home, FOLDER).glob("*") if home else ():
        with suppress(OSError, ValueError, AttributeError):
            if json.loads(path.read_bytes()).get("name") == name:
                path.unlink()


def _read_terms(path: Path) -> ReplayTerms:
    return ReplayTerms(**json.loads(path.read_bytes()))


def _write(path: Path, text: str) -> None:
    """Write the whole file or nothing, and change the folder's time stamp."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".{os.getpid()}")  # no prefix begins so
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _signal_path(prefix: str) -> Path | None:
    home = os.environ.get(MARK, "")
    return Path(home, FOLDER, quote(prefix, safe="")) if home else None
