"""The declared example of a function, with the files that it names read.

A file stands for what a form's part of its field would (``form_values``): bytes, a text, or JSON
where the field is neither. It is part of the function, so it lies in the folder of its declaration
and is another version once it is edited (``runtime.artifacts.version``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from runtime.artifacts.sources import RELATIVE_PATHS
from runtime.errors import MalformedBody, RequestError
from runtime.graph.requests.form_values import alternatives, kind_in_form
from runtime.protocol.content_kinds import kind_of_content
from runtime.protocol.json_text import dumps, loads
from runtime.system.files import did_you_mean_file, resolve_path
from runtime.types.example_files import FILE_TAG, KeyPath, find_files, replace_files

Schemas = Iterable[Mapping[str, Any]]

_ANY: Final[Mapping[str, Any]] = {}


class Example:
    """One request, as its function declares it.

    Args:
        declared: as written, files by their paths.
        validate: checks a row, and fills its defaults in (``RowValidator.validate``).
        read_schema: returns the JSON Schema of a row; called where there are files.
        root: where relative paths begin; files lie in it, links followed.
        max_bytes: of all files together: no caller could send more.
    """

    def __init__(
        self,
        declared: Mapping[str, Any],
        validate: Callable[[Any], dict[str, Any]],
        read_schema: Callable[[], Mapping[str, Any]],
        root: Path,
        max_bytes: int,
    ) -> None:
        self._declared = dict(declared)
        self._validate = validate
        self._read_schema = read_schema
        self._root = root
        self._max_bytes = max_bytes
        self.files = tuple(find_files(self._declared))

    @cached_property
    def row(self) -> Any:
        """As a caller in this process gives it: what a file is for a field of bytes is ``bytes``.
        Read once: a later look at whether the function still answers must not find another file.

        Raises:
            RequestError: a file cannot be read as what its field takes; ``where`` is its place.
        """
        if not self.files:
            return self._declared
        schema, left = self._read_schema(), self._max_bytes

        def read(place: KeyPath, written: str) -> Any:
            nonlocal left
            where = _format_place(place)
            content = _read_file(self._root, written, left, self._max_bytes, where)
            left -= len(content)
            return _value_of(content, list(_schemas_at(schema, place)), written, where)

        return replace_files(self._declared, read)

    def is_readable(self) -> bool:
        """Whether its files can be read here."""
        try:
            self.row  # noqa: B018 - it is read
        except RequestError:
            return False
        return True

    def fields(self) -> dict[str, Any]:
        """Its values by field, checked.

        Raises:
            RequestError: the function does not take it, or as of ``row``.
            FunctionError: a validator of the author's failed.
        """
        return self._validate(self.row)

    @property
    def json_row(self) -> Any:
        """As plain JSON, bytes in base64.

        Raises:
            RequestError: as of ``row``.
        """
        return loads(dumps(self.row)) if self.files else self._declared

    @property
    def identity(self) -> Any:
        """Plain data that is another for another row."""
        return hashlib.sha256(dumps(self.row)).hexdigest() if self.files else self._declared

    @property
    def file_bytes(self) -> int:
        """Of all its files, as they are now; a missing one has none."""
        return sum(_size(self._root / written) for _, written in self.files)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _format_place(place: KeyPath) -> str:
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _read_file(root: Path, written: str, left: int, most: int, where: str) -> bytes:
    """The content of a file, of at most ``left`` bytes."""
    try:
        found = resolve_path(root / written)
        if not found.is_relative_to(root.resolve()):
            raise RequestError(
                f"{written} leads to {found}, outside of {root}. Move the file into it.",
                where=where,
            )
        if not found.is_file():
            start = "" if Path(written).is_absolute() else f" {RELATIVE_PATHS.format(root=root)}"
            raise RequestError(
                f"{found} is {'a folder' if found.is_dir() else 'not there'}"
                f"{'.' if found.is_dir() else did_you_mean_file(found)}{start}",
                where=where,
            )
        with found.open("rb") as stream:
            content = stream.read(left + 1)
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{written!r} cannot be read: {reason}.", where=where) from None
    if len(content) > left:
        raise RequestError(
            f"{written} makes the example larger than the {most} bytes of limits.max_body_bytes: "
            "no call could send it. Take a smaller file, or raise the limit.",
            where=where,
        )
    return content


def _value_of(content: bytes, schemas: list[Mapping[str, Any]], written: str, where: str) -> Any:
    """What a file stands for in the place of a value of one of these schemas."""
    kinds = {kind_in_form(one) for one in schemas}
    if "bytes" in kinds:
        return content
    try:
        text = content.decode()
    except UnicodeDecodeError:
        if all(one == _ANY for one in schemas):  # whatever it is
            return content
        what = kind_of_content(content) or "no text in UTF-8"
        raise RequestError(
            f"{written} is {what}, and the field takes no bytes. {FILE_TAG} stands for the text of "
            "a file there.",
            where=where,
        ) from None
    if "text" in kinds:
        return text
    try:
        return loads(content)
    except MalformedBody:
        return text


def _schemas_at(schema: Mapping[str, Any], place: KeyPath) -> Schemas:
    """The schemas that a value may have at a place; one that takes anything where none is known."""
    definitions = schema.get("$defs", {})
    here: list[Mapping[str, Any]] = [schema]
    for step in place:
        known = [one for outer in here for one in alternatives(outer, definitions)]
        here = [inner for one in known if (inner := _child(one, step)) is not None]
    found = [one for outer in here for one in alternatives(outer, definitions)]
    return found or [_ANY]


def _child(schema: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    """The schema of a key, or of an element; None: it says none."""
    if isinstance(step, str):
        found = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
    else:
        first = schema.get("prefixItems", ())
        found = first[step] if step < len(first) else schema.get("items")
    return found if isinstance(found, Mapping) else None
