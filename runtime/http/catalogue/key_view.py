"""What a request sees of the server, where its key opens some functions and not others: these
alone. Others are as if they were not declared. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from runtime.errors import NotFound
from runtime.http.request_headers import Header, callable_functions, key_name
from runtime.system.messages import did_you_mean

Entry = dict[str, Any]
"""One function, as of ``runtime.http.catalogue.app.Index``."""

HIDDEN: Final = "another function"
"""In a text, for the name of one that is not seen."""

_TEXTS: Final = ("reason", "last_decision", "doing", "update")
"""Of an entry, what may name other functions."""

_WORD: Final = re.compile(r"[\w.-]*\w")
"""A function's name, and any word."""

_LABELS: Final = re.compile(r'\b(function|key)="((?:[^"\\]|\\.)*)"')


class KeyView(NamedTuple):
    """What one request sees.

    Attributes:
        functions: the names of those that it may call.
        key: the name of its key.
    """

    functions: frozenset[str]
    key: str

    @classmethod
    def of(cls, headers: Iterable[Header]) -> KeyView | None:
        """From a request's headers, names in lower case. None: it sees everything."""
        fields = dict(reversed(list(headers)))
        functions = callable_functions(fields)
        return None if functions is None else cls(functions, key_name(fields))

    def shows(self, entry: Mapping[str, Any]) -> bool:
        """Whether a function is one of those; a stage is where its function is."""
        return (entry.get("part_of") or entry["name"]) in self.functions

    def entries(self, entries: Iterable[Mapping[str, Any]]) -> list[Entry]:
        """Return what is seen of these entries. Of others there is no name in them."""
        every = list(entries)
        others = {entry["name"] for entry in every if not self.shows(entry)}
        return [self._entry(entry, others) for entry in every if self.shows(entry)]

    def explanation(self, told: Entry, every: Iterable[Entry]) -> Entry:
        """Return what is seen of one function's ``decisions``. Not the ``hosts``: they are the
        server's.

        Args:
            told: as of ``runtime.http.catalogue.app.Explain``.
            every: all functions.
        """
        every = list(every)
        others = {entry["name"] for entry in every if not self.shows(entry)}
        decisions = self.texts(told.get("decisions", ()), "why", every)
        return {**self._entry(told, others), "decisions": decisions, "hosts": []}

    def texts(
        self, records: Iterable[Mapping[str, Any]], key: str, every: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return records about a function that is seen, without the names of others in a text of
        them.

        Args:
            key: of the text.
            every: all functions.
        """
        others = {entry["name"] for entry in every if not self.shows(entry)}
        return [{**record, key: _without(record[key], others)} for record in records]

    def require(self, name: str) -> None:
        """See that a function is one of those.

        Raises:
            NotFound: it is not, whether it is declared or not.
        """
        if name not in self.functions:
            near = did_you_mean(name[:128], self.functions) or "."
            raise NotFound(f"no function is named so{near}")

    def metrics(self, page: bytes) -> bytes:
        """Return a page in Prometheus' text form without the numbers of other functions, of all
        together, and of other keys.
        """
        return b"".join(
            line for line in page.splitlines(keepends=True) if self._shows_sample(line.decode())
        )

    def _shows_sample(self, line: str) -> bool:
        if line.startswith("#"):
            return True
        return all(
            value in self.functions if label == "function" else value == self.key
            for label, value in _LABELS.findall(line)
        )

    def _entry(self, entry: Mapping[str, Any], others: Collection[str]) -> Entry:
        texts = {name: _without(entry[name], others) for name in _TEXTS if entry.get(name)}
        seen = {**entry, **texts}
        if hops := entry.get("hop_ms"):
            seen["hop_ms"] = {name: hop for name, hop in hops.items() if name in self.functions}
        return seen


def _without(text: str, others: Collection[str]) -> str:
    return _WORD.sub(lambda word: HIDDEN if word[0] in others else word[0], text)
