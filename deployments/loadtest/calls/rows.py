"""Rows that a file gives for calls, in JSON Lines.

    {"text": "two words"}                                            rows of one function
    {"function": "embed", "body": {"text": "two words"}}             calls of any

A call may also have ``headers``, and an ``answer`` that the function must give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from deployments.loadtest.calls.load_call import RecordedAnswer
from deployments.loadtest.refusal import LoadTestRefused

MOST_CALLS: Final = 100_000
"""Of a file; they are sent in turn, again and again."""

MOST_BYTES: Final = 1 << 30
"""Of a file of rows: they are held in memory by each process that sends."""

MOST_SHOWN: Final = 3
"""Faults of a file that are told one by one."""

_KEYS: Final = frozenset({"function", "body", "headers", "answer"})


class _BadLine(ValueError):
    """A line that is JSON, and no call; the message says what is wanted."""


@dataclass(slots=True)
class LineFaults:
    """What is wrong with lines of a file that the rest may be used without.

    Attributes:
        path: of the file.
        should_skip: the rest is used.
        found: line and reason, the first few.
        count: of all.

    Mutable state: ``found`` and ``count``.
    """

    path: Path
    should_skip: bool
    found: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, reason: str) -> None:
        """A line that cannot be used."""
        self.count += 1
        if len(self.found) < MOST_SHOWN:
            self.found.append(f"{self.path}:{line}: {reason.rstrip('.')}")

    @property
    def note(self) -> str:
        """What was left out; empty: nothing."""
        if not self.count:
            return ""
        lines = "1 line is" if self.count == 1 else f"{self.count} lines are"
        return f"{lines} left out: {'; '.join(self.found)}{self._more}."

    @property
    def _more(self) -> str:
        more = self.count - len(self.found)
        return f" and {more} line{'s' * (more > 1)} more" * (more > 0)

    def finish(self) -> None:
        """Every line was read.

        Raises:
            LoadTestRefused: some cannot be used, and none may be left out.
        """
        if self.count and not self.should_skip:
            raise LoadTestRefused(
                f"{'; '.join(self.found)}{self._more}. `--skip-bad` uses the rest.",
                where=str(self.path),
            )


class GivenCall(NamedTuple):
    """A call as a file gives it.

    Attributes:
        source: its file, which is told where it cannot be sent.
        line: of that.
    """

    function: str
    body: Any
    headers: dict[str, str]
    recorded: RecordedAnswer | None
    source: LineFaults
    line: int


_Reader = Callable[[Any, LineFaults, int], GivenCall]


def read_calls(path: Path, function: str, *, should_skip: bool) -> list[GivenCall]:
    """The calls of a file.

    Args:
        function: whose rows the lines are; empty: each line says its own.
        should_skip: leave out lines that cannot be used.

    Raises:
        LoadTestRefused: the file cannot be read, has no calls or too many, or a line is damaged.
    """
    faults = LineFaults(path, should_skip)
    read = _row_of(function) if function else _call_of
    calls = list(_read(path, read, faults))
    faults.finish()
    if not calls:
        raise LoadTestRefused(f"{path} has no calls. Give one a line, in JSON.", where=str(path))
    return calls


def _read(path: Path, read: _Reader, faults: LineFaults) -> Iterator[GivenCall]:
    number = 0
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        if number > MOST_CALLS:
            raise LoadTestRefused(
                f"{path} has more than {MOST_CALLS:,} lines. Give fewer: they are sent in turn.",
                where=str(path),
            )
        try:
            yield read(orjson.loads(line), faults, number)
        except (ValueError, RecursionError) as error:
            faults.add(number, str(error))


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file.

    Raises:
        LoadTestRefused: it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as stream:
            if path.stat().st_size > MOST_BYTES:
                raise LoadTestRefused(
                    f"{path} is larger than {MOST_BYTES >> 20} MiB. Give fewer calls.",
                    where=str(path),
                )
            yield from stream
    except OSError as error:
        raise LoadTestRefused(
            f"{path} cannot be read: {error.strerror or error}.", where=str(path)
        ) from None


def _row_of(function: str) -> _Reader:
    def read(value: Any, source: LineFaults, line: int) -> GivenCall:
        if not isinstance(value, dict | list):
            raise _BadLine("an object with the fields of a row is wanted.")
        return GivenCall(function, value, {}, None, source, line)

    return read


def _call_of(value: Any, source: LineFaults, line: int) -> GivenCall:
    if not isinstance(value, dict) or not {"function", "body"} <= value.keys():
        raise _BadLine(
            "an object with `function` and `body` is wanted; rows of one function are given as"
            " `--calls NAME=FILE`."
        )
    if unknown := value.keys() - _KEYS:
        raise _BadLine(f"{min(unknown)!r} is none of {', '.join(sorted(_KEYS))}.")
    headers = value.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(one, str) for one in headers.values()):
        raise _BadLine("`headers` is an object of texts.")
    recorded = RecordedAnswer(value["answer"]) if "answer" in value else None
    name = str(value["function"])
    return GivenCall(name, value["body"], headers, recorded, source, line)
