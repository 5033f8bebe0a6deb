"""The curl line that calls a function, for a shell: it works as it stands, but for ``FILE`` and
``VALUE`` in the place of what only its reader has.

A file goes into a part of a form, whatever else the function accepts: then curl says what it sends.
A row without one is JSON. Where neither fits in a line, the line asks for the metadata.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runtime.graph.requests.form_values import alternatives, kind_in_form
from runtime.system.messages import MAX_SHOWN
from runtime.types.example_files import file_named_by

LONGEST_BODY: Final = 2000
"""Characters of a body that still make a line to paste."""

MOST_FIELDS: Final = 20
"""Fields that a sentence names."""

FILE: Final = "FILE"
VALUE: Final = "VALUE"
"""What a reader puts in, and what curl sends as it is."""

JSON_HEADER: Final = " -H 'content-type: application/json'"

ONE_CALL_SEQUENCE: Final = " -H 'x-sequence-id: me' -H 'x-sequence-start: 1' -H 'x-sequence-end: 1'"
"""A sequence of one call; no state is kept of it."""

_SENT_BY_CURL: Final = frozenset({"accept", "content-type", "user-agent"})

_SPECIAL: Final = re.compile(r"[;,\"\\\s]")
"""What curl reads in the path of a file as something else."""

_OF_FILES: Final = frozenset({"bytes", "files"})
"""Kinds of fields that take the content of a file, or of several."""

_WORDS: Final[Mapping[str, str]] = {
    "string": "text",
    "boolean": "true or false",
    "integer": "integer",
    "number": "number",
    "array": "list",
    "object": "object",
}


@dataclass(frozen=True, slots=True)
class CallForm:
    """What a call of a function sends.

    Attributes:
        schema: JSON Schema of a row.
        headers: those that a call needs, with what may be sent.
        is_of_sequence: each call belongs to a sequence.
        example: a row as it is declared; None: none is.
        output: the file that its answer is written into, which a terminal cannot show; empty: it
            can.
    """

    schema: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    is_of_sequence: bool = False
    example: Mapping[str, Any] | None = None
    output: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that each call has."""
        return tuple(self.schema.get("required", ()))

    @property
    def files(self) -> tuple[str, ...]:
        """The fields that take the content of a file: bytes, or a list of them."""
        return tuple(name for name in self._properties if self._kind(name) in _OF_FILES)

    def describe_fields(self) -> str:
        """In words, for a client: ``image (bytes), k (integer, optional)``."""
        properties = self._properties
        shown = [
            f"{name[:MAX_SHOWN]} ({self._word(name)}{optional})"
            for name in list(properties)[:MOST_FIELDS]
            for optional in ("" if name in self.required else ", optional",)
        ]
        more = len(properties) - MOST_FIELDS
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "") or "none"

    @property
    def _properties(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.schema.get("properties", {})
        return found

    def _alternatives(self, name: str) -> list[Mapping[str, Any]]:
        definitions = self.schema.get("$defs", {})
        return list(alternatives(self._properties.get(name, {}), definitions))

    def _kind(self, name: str) -> str:
        """``files`` for a list of bytes, else as of ``kind_in_form``: bytes, then text first."""
        known = self._alternatives(name)
        kinds = {kind_in_form(one) for one in known}
        definitions = self.schema.get("$defs", {})
        for one in known:
            elements = alternatives(one.get("items", {}), definitions)
            if one.get("type") == "array" and "bytes" in map(kind_in_form, elements):
                return "files"
        return next(kind for kind in ("bytes", "text", "boolean", "json") if kind in kinds)

    def _word(self, name: str) -> str:
        if (kind := self._kind(name)) in ("bytes", "files"):
            return "bytes" if kind == "bytes" else "list of bytes"
        kinds = [str(one.get("type")) for one in self._alternatives(name)]
        words = dict.fromkeys(_WORDS[kind] for kind in kinds if kind in _WORDS)
        known = " or ".join(words) or ("text" if kind == "text" else "any")
        return f"{known} or null" if "null" in kinds else known

    def line(
        self, url: str, example: Mapping[str, Any] | None, declared: Any = None, root: Path = Path()
    ) -> str:
        """The line that calls it.

        Args:
            example: a row as plain JSON; None: none is known.
            declared: the same as declared, where files are paths; None: there is none.
            root: where these begin, seen from the working folder.
        """
        sent = self._body(example, declared, root)
        if sent is None:
            return f"curl {url}"
        program, options = sent
        keep = f" -o {shlex.quote(self.output)}" if self.output else ""
        return f"{program}curl {url}{''.join(self._header_options())}{options}{keep}"

    def _body(
        self, example: Mapping[str, Any] | None, declared: Any, root: Path
    ) -> tuple[str, str] | None:
        """What prints the body into curl, which may be empty, and the options that send it; None
        where no row is known that fits in a line.
        """
        if (path := file_named_by(declared)) is not None:
            return "", f"{JSON_HEADER} --data-binary {shlex.quote(f'@{root / path}')}"
        declared = declared if isinstance(declared, Mapping) else {}
        if (parts := self._form(example or {}, declared, root)) is not None:
            return "", parts
        if example is None:
            return None
        body = json.dumps(example, ensure_ascii=False)
        if len(body) <= LONGEST_BODY:
            return "", f"{JSON_HEADER} -d {shlex.quote(body)}"
        program = f"import json; print(json.dumps({_repeated(example)}))"
        if len(program) > LONGEST_BODY:
            return None
        return f"python3 -c {shlex.quote(program)} | ", f"{JSON_HEADER} -d @-"

    def _form(
        self, example: Mapping[str, Any], declared: Mapping[str, Any], root: Path
    ) -> str | None:
        """The options that send a row in a form; None where no file is among its fields, or they
        do not fit in a line.
        """
        given = declared or example
        kinds = {name: self._kind(name) for name in dict.fromkeys((*self.required, *given))}
        named = {name for name in kinds if file_named_by(declared.get(name)) is not None}
        if not named and _OF_FILES.isdisjoint(kinds.values()):
            return None
        if any(name not in given and kind not in _OF_FILES for name, kind in kinds.items()):
            return None
        parts = (
            _parts(name, kind, declared.get(name), example.get(name, declared.get(name)), root)
            for name, kind in kinds.items()
        )
        options = "".join(itertools.chain.from_iterable(parts))
        return options if len(options) <= LONGEST_BODY else None

    def _header_options(self) -> list[str]:
        options = [
            f" -H {shlex.quote(f'{name}: {value or VALUE}')}"
            for name, value in self.headers.items()
            if name not in _SENT_BY_CURL
        ]
        return [*options, *([ONE_CALL_SEQUENCE] if self.is_of_sequence else [])]


def _parts(name: str, kind: str, declared: Any, value: Any, root: Path) -> list[str]:
    """The options that send one field in a form.

    Args:
        kind: as of ``CallForm._kind``.
    """
    if (path := file_named_by(declared)) is not None:
        return [_file_part(name, "@" if kind in _OF_FILES else "<", str(root / path))]
    if kind in _OF_FILES:
        elements = declared if isinstance(declared, list) else []
        found = [file_named_by(one) for one in elements]
        paths = [str(root / path) for path in found if path is not None]
        return [_file_part(name, "@", path) for path in paths or [FILE]]
    if value is None and kind != "json":
        return []
    text = value if kind == "text" and isinstance(value, str) else json.dumps(value)
    option = "-F" if re.fullmatch(r"[\w.:+-][\w.:+ -]*", text) else "--form-string"
    return [f" {option} {shlex.quote(f'{name}={text}')}"]


def _file_part(name: str, sign: str, path: str) -> str:
    if _SPECIAL.search(path):
        path = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f" -F {shlex.quote(f'{name}={sign}{path}')}"


def _repeated(value: Any) -> str:
    """A value as a Python expression, in which a list of one element again and again is short."""
    if isinstance(value, list) and len(value) > 1 and all(one == value[0] for one in value[1:]):
        return f"[{_repeated(value[0])}] * {len(value)}"
    if isinstance(value, list):
        return f"[{', '.join(map(_repeated, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_repeated(inner)}' for key, inner in value.items())}}}"
    return repr(value)
