"""A YAML file as plain data in which every key knows its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from runtime.declaration.compose import Composer
from runtime.declaration.place import parent
from runtime.errors import DeclarationError, Problem

MAX_BYTES: Final = 1 << 20
"""Largest file read: about 1,500 functions of twelve lines, three seconds of parsing."""

_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says.

    Attributes:
        file: its name as the user gave it.
        data: mappings, lists, strings, numbers, booleans and None.
        lines: the line of every key and list item, by its place.
        problems: what was refused while reading, in file order; what it leaves in ``data`` is told at ``Composer``.
    """

    file: str
    data: Any
    lines: Mapping[str, int]
    problems: tuple[Problem, ...]

    def line(self, place: str) -> int:
        """The line of a place, or of its nearest parent that stands in the file."""
        while place and place not in self.lines:
            place = parent(place)
        return self.lines.get(place, 1)


def read(path: Path | str) -> Document:
    """The file as data.

    Raises:
        DeclarationError: unreadable, above ``MAX_BYTES``, not UTF-8, not YAML, or nested too deep. Everything milder stands
            in ``Document.problems``, so that later checks can add to it.
    """
    file = str(path)
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DeclarationError([Problem(file, 0, "", f"cannot be read: {error.strerror}.")]) from error
    if len(content) > MAX_BYTES:
        raise DeclarationError([Problem(file, 0, "", f"larger than {MAX_BYTES >> 20} MiB, the most that is read.")])
    return parse(_text(file, content), file)


def parse(text: str, file: str) -> Document:
    """The text of a file as data; see :func:`read`."""
    composer = Composer(file, YAML(typ="safe", pure=True).parse(text))
    try:
        data = composer.document()
    except MarkedYAMLError as error:
        raise DeclarationError([*composer.problems, _not_yaml(file, error)]) from error
    except (YAMLError, ValueError, OverflowError) as error:  # ruamel gives these no mark: an escape beyond Unicode, for one
        line = max(composer.lines.values(), default=1)
        raise DeclarationError([*composer.problems, Problem(file, line, "", f"not YAML: {str(error).splitlines()[0]}.")]) from error
    return Document(file, data, composer.lines, tuple(composer.problems))


def _text(file: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DeclarationError([Problem(file, line, "", f"byte 0x{content[error.start]:02x} is not UTF-8.")]) from error
    if found := _FORBIDDEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise DeclarationError([Problem(file, line, "", f"character U+{ord(found.group()):04X} does not belong in YAML. Delete it.")])
    return text


def _not_yaml(file: str, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    if "'\\t'" in str(error.problem):
        return Problem(file, line, "", f"not YAML: a tab at column {column}. Indent with spaces.")
    start = error.context_mark
    context = f", {error.context} that starts on line {start.line + 1}" if start and start.line + 1 != line else ""
    return Problem(file, line, "", f"not YAML: {error.problem} at column {column}{context}.")
