"""YAML events into plain data in which the line of every key is known.

Nothing is constructed: no tag can name a class, no alias can make a small file large or a value its own child, and a file that is
nested too deep is left at the depth where that shows. What remains is what JSON can say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from runtime.declaration.place import step
from runtime.declaration.scalars import ScalarError, meaning
from runtime.errors import DeclarationError, Problem
from runtime.wording import shown

MAX_DEPTH: Final = 32
"""Deepest nesting read; a declaration needs eight."""

MAX_VALUES: Final = 1 << 17
"""Most keys and values read, for which parsing takes three seconds; a thousand functions have half as many."""

MAX_PROBLEMS: Final = 1000
"""Problems after which the rest of a file is not read."""


class Composer:
    """Reads one document from a stream of events.

    Attributes:
        lines: the line of every key and list item, by its place; of a key that stands twice, the first.
        problems: what was refused so far. The data keeps a refused word as text, an alias as None and of two equal keys the first.
    """

    def __init__(self, file: str, events: Iterator[Event]) -> None:
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._events = events
        self._values = 0

    def document(self) -> Any:
        """The data of the only document; None when there is none.

        Raises:
            DeclarationError: nested deeper than ``MAX_DEPTH``, more than ``MAX_VALUES``, or ``MAX_PROBLEMS`` found.
        """
        data, documents = None, 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "", "a second document starts here; a file holds one. Delete the line.")
                    return data
                if event.version or event.tags:
                    self._refuse(event, "", "directives (%YAML, %TAG) are not read. Delete them.")
            elif isinstance(event, NodeEvent):
                data = self._value(event, "", 1)
        return data

    def _value(self, event: Event, place: str, depth: int) -> Any:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            most = f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_VALUES} keys and values"
            self._refuse(event, "", f"{most}, the most that is read.")
            raise DeclarationError(self.problems)
        self._check_properties(event, place)
        if isinstance(event, ScalarEvent):
            return self._scalar(event, place)
        if isinstance(event, MappingStartEvent):
            return self._mapping(place, depth)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(place, depth)
        return None  # an alias, refused above

    def _check_properties(self, event: Event, place: str) -> None:
        anchor: str | None = getattr(event, "anchor", None)
        tag: str | None = getattr(event, "tag", None)
        if isinstance(event, AliasEvent):
            self._refuse(event, place, f"aliases ({shown(anchor)}) are not read. Write the value out.")
        elif anchor:
            self._refuse(event, place, f"anchors ({shown(anchor)}) are not read. Delete it.")
        if tag:
            self._refuse(event, place, f"tags ({shown(tag.replace('tag:yaml.org,2002:', '!!'))}) are not read. Delete it.")

    def _scalar(self, event: ScalarEvent, place: str) -> Any:
        word: str = event.value
        if not event.implicit[0]:  # quoted, or a block of text
            if any("\ud800" <= character <= "\udfff" for character in word):
                self._refuse(event, place, f"{shown(word)} holds half a character (a lone surrogate). Write the character itself.")
            return word
        try:
            return meaning(word)
        except ScalarError as error:
            self._refuse(event, place, str(error))
            return word

    def _mapping(self, place: str, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            line = event.start_mark.line + 1
            here = step(place, event.value) if isinstance(event, ScalarEvent) else place
            key = self._value(event, here, depth + 1)
            if not isinstance(key, str):
                key = shown(key)
                here = step(place, key)
                self._refuse(event, here, "keys are strings. Put it in quotes.")
            if key in first:
                self._refuse(event, here, f"this key already stands on line {first[key]}. Delete one of the two.")
            self.lines.setdefault(here, line)
            value = self._value(next(self._events), here, depth + 1)
            if key not in first:
                data[key] = value
                first[key] = line
        return data

    def _sequence(self, place: str, depth: int) -> list[Any]:
        data: list[Any] = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            here = step(place, len(data))
            self.lines.setdefault(here, event.start_mark.line + 1)
            data.append(self._value(event, here, depth + 1))
        return data

    def _refuse(self, event: Event, place: str, message: str) -> None:
        self.problems.append(Problem(self._file, event.start_mark.line + 1, place, message))
        if len(self.problems) >= MAX_PROBLEMS:
            raise DeclarationError(self.problems)
