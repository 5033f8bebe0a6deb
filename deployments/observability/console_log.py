"""The log of one function, as a page of the console follows it: what is at the ends of the files,
then what is written to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from deployments.observability.logs import LogFollower, LogSources, last_records, parse_record
from runtime.http.catalogue.console.shapes import LogLine

MOST_LINES: Final = 300
"""That are told at once: of more the last."""

LINE_CHARACTERS: Final = 2000


class FunctionLog:
    """Implements ``runtime.http.catalogue.console.sources.LogTail``.

    Args:
        find_sources: returns the files that there are now.

    Mutable state: ``_follower``, from ``read_last`` on.
    """

    def __init__(self, find_sources: Callable[[], LogSources]) -> None:
        self._find_sources = find_sources
        self._follower: LogFollower | None = None

    def read_last(self) -> list[LogLine]:
        """See ``LogTail``."""
        sources = self._find_sources()
        files = sources.files()
        self._follower = LogFollower(sources, files)
        return _last_lines(last_records(sources, files))

    def read_new(self) -> list[LogLine]:
        """See ``LogTail``."""
        return [] if self._follower is None else _last_lines(self._follower.read_new())


def _last_lines(records: Iterable[str]) -> list[LogLine]:
    """The last lines of these, of which there may be very many."""
    lines: deque[str] = deque(maxlen=MOST_LINES)
    for record in records:
        lines.extend(record.split("\n"))
    return [_shown(line) for line in lines]


def _shown(line: str) -> LogLine:
    record = parse_record(line)
    return {"at": record["at"], "kind": record["kind"], "text": record["text"][:LINE_CHARACTERS]}
