"""Decisions in words, kept in a file: a line of JSON each, ``{"at", "function", "why", ...}``, and the file before it."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import closing
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from deployments.rayenv import MARK

FILE: Final = "decisions.jsonl"
"""In the state folder."""

MOST_BYTES: Final = 1 << 20
"""Of a file: about 5,000 decisions."""


class Decisions:
    """Appends decisions. They are rare, so the file is opened for each: whoever writes it holds nothing, and may end at any time.

    Args:
        path: the file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @classmethod
    def of_this_cluster(cls) -> Decisions:
        """In the state folder of the cluster that this process belongs to; nothing is kept on a cluster that is not ours."""
        home = os.environ.get(MARK, "")
        return cls(Path(home, FILE) if home else None)

    def write(self, function: str, why: str, **numbers: Any) -> None:
        """One decision, now; ``numbers`` are plain JSON data. A full disk stops nothing: the handler says so on standard error."""
        if self._path is None:
            return
        text = json.dumps({"at": round(time.time(), 3), "function": function, "why": why, **numbers}, ensure_ascii=False)
        record = logging.LogRecord("wakeful.decisions", logging.INFO, __file__, 0, text, None, None)
        with closing(RotatingFileHandler(self._path, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8", delay=True)) as handler:
            handler.handle(record)

    def about(self, function: str) -> list[dict[str, Any]]:
        """The latest decisions about a function, oldest first; none where nothing is kept."""
        return read(self._path.parent, function) if self._path is not None else []


def read(home: Path, function: str, most: int = 50) -> list[dict[str, Any]]:
    """The latest decisions about a function, oldest first; those of the file, and of the one before where that is not enough."""
    found: list[dict[str, Any]] = []
    for path in (home / f"{FILE}.1", home / FILE):
        if path.exists():
            lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            found += [line for line in lines if line["function"] == function]
    return found[-most:]
