"""The functions that made a ``wakeful run`` end since their stages did not return: the next run,
which a supervisor has started, serves all but those that do so again and again.

    <state folder>/hangs.json   by label, name and version: when, seconds since the epoch
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.http.server import HangHistory
from runtime.system.crash.recorder import label_of

MOST_ENDS: Final = 4
"""Processes that a version of a function may end within ``KEPT_S``: as many as quarantine it on
Ray.
"""

KEPT_S: Final = 3600.0
"""A function whose deadline is a minute takes four to end a process: within the ten minutes of
Ray's crashes it would never be quarantined."""

MOST_LABELS: Final = 100
"""That are kept, the latest."""


def is_refused(ends: Sequence[float], now: float) -> bool:
    """Whether a function is not served that ended processes at these times, seconds."""
    return sum(now - KEPT_S < at <= now for at in ends) >= MOST_ENDS


class HangRecords:
    """The records of this user.

    Args:
        path: the file; None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def record(self, label: str, now: float) -> None:
        """Note that a process ends for the function with this label; best effort."""
        ends = self._read()
        ends[label] = [at for at in (*ends.get(label, ()), now) if at > now - KEPT_S][-MOST_ENDS:]
        latest = sorted(ends, key=lambda one: ends[one][-1])[-MOST_LABELS:]
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            draft = self._path.with_suffix(".new")
            draft.write_text(json.dumps({one: ends[one] for one in latest}), encoding="utf-8")
            draft.replace(self._path)

    def refused(self, labels: Mapping[str, str], now: float) -> dict[str, str]:
        """Why functions are not served, by name.

        Args:
            labels: of the functions, by name.
        """
        ends = self._read()
        return {
            name: f"its stages did not return, and {MOST_ENDS} processes ended for it within"
            f" {KEPT_S / 3600:g} h; their logs say where it was. Mend it: another version is served"
            " at once, this one an hour after the first of these ends."
            for name, label in labels.items()
            if is_refused(ends.get(label, ()), now)
        }

    def history(self, functions: Sequence[FunctionSpec]) -> HangHistory:
        """What a process that serves these functions needs of them."""
        labels = {spec.name: label_of(spec.name, version_hash(spec)) for spec in functions}
        return HangHistory(
            self.refused(labels, time.time()), lambda label: self.record(label, time.time())
        )

    def _read(self) -> dict[str, list[float]]:
        """What is there; nothing where it cannot be read."""
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                data = json.loads(self._path.read_text(encoding="utf-8"))
                if isinstance(data, dict):
                    return {
                        label: [float(at) for at in ends]
                        for label, ends in data.items()
                        if isinstance(ends, list) and ends
                    }
        return {}
