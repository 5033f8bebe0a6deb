"""What the values of a form stand for: a form has text alone, and the JSON Schema of a function's
row says which of it is a number, a flag, a list, bytes or text.

    field                    value of a part
    bytes                    the bytes, not base64
    text, an enum, a date    the text, in UTF-8
    a boolean                true or false, on or off, yes or no, 1 or 0
    a list                   one part for each element; or one that has the list as JSON
    anything else            JSON: 0.5, null, {"a": 1}; an empty one is as if it were left out

What cannot be converted stays text, and the row's check refuses it at its field.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from runtime.errors import MalformedBody, RequestError, TooLarge, UnknownInput
from runtime.graph.graph import OMITTED
from runtime.protocol.content_kinds import kind_of_content
from runtime.protocol.json_text import loads
from runtime.system.messages import did_you_mean, quote_names

MAX_JSON_BYTES: Final = 256 << 10
"""Of the values of one form that are JSON, together; read, JSON takes ten times its bytes."""

MAX_TEXT_BYTES: Final = 1 << 20
"""Of the values of one form that are not bytes, together. A function has a few short ones; what is
longer is sent as JSON, whose size its function bounds.
"""

MAX_PLACE_CHARS: Final = 64
"""Of a name in an error; a client may send any."""

_FLAGS: Final = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "0"), False),
}


class FormConverter:
    """Makes rows of the parts of forms, for one function.

    Args:
        schema: JSON Schema of a row (``RowValidator.json_schema``).

    Attributes:
        schema: the same.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        definitions = schema.get("$defs", {})
        self._fields = {
            name: tuple(alternatives(entry, definitions))
            for name, entry in schema.get("properties", {}).items()
        }
        self._definitions = definitions

    def read_row(self, parts: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
        """Return the row, to be validated as one of JSON is.

        Raises:
            UnknownInput: a part of no field's name; no value was looked into.
            MalformedBody: text that is not UTF-8.
            RequestError: two values of a field that takes one.
            TooLarge: more than ``MAX_JSON_BYTES`` of JSON, or ``MAX_TEXT_BYTES`` of text.
        """
        values: dict[str, list[bytes]] = {}
        for name, value in parts:
            if name not in self._fields:
                raise unknown_field(name, self._fields, kind_of_content(value))
            values.setdefault(name, []).append(value)
        row: dict[str, Any] = {}
        budget = _Budget()
        for name, given in values.items():
            converted = self._convert(name, given, budget)
            if converted is not OMITTED:
                row[name] = converted
        return row

    def _convert(self, name: str, given: list[bytes], budget: _Budget) -> Any:
        schemas = self._fields[name]
        items = next((one.get("items", {}) for one in schemas if one.get("type") == "array"), None)
        if items is not None:
            if len(given) == 1 and given[0][:MAX_JSON_BYTES].lstrip()[:1] in (b"[", b""):
                return _one(name, given[0], schemas, budget)
            elements = tuple(alternatives(items, self._definitions))
            return [_one(name, value, elements, budget) for value in given]
        if len(given) > 1:
            raise RequestError(
                f"the form has {len(given)} values of {quote_names(name)}, which takes one.",
                where=name[:MAX_PLACE_CHARS],
            )
        return _one(name, given[0], schemas, budget)


def unknown_field(
    name: str, known: Collection[str], what: str = "", where: str = ""
) -> UnknownInput:
    """The error for a field that the function does not have.

    Args:
        what: was given for it, with its article; empty: that does not matter.
        where: its place; empty: its name is.
    """
    hint = did_you_mean(name[:MAX_PLACE_CHARS], known) or f"; the fields are {', '.join(known)}."
    given = f"{quote_names(name)} is {what}, and " if what else ""
    return UnknownInput(
        f"{given}the function has no such field{hint}", where=where or name[:MAX_PLACE_CHARS]
    )


class _Budget:
    """Mutable state: the bytes of text, and those of JSON among them, that the form has left."""

    def __init__(self) -> None:
        self._text_left, self._json_left = MAX_TEXT_BYTES, MAX_JSON_BYTES

    def take_text(self, value: bytes, name: str) -> None:
        """Raises TooLarge when it is used up."""
        self._text_left -= len(value)
        if self._text_left < 0:
            raise _too_large(f"{MAX_TEXT_BYTES} bytes of text", name)

    def take_json(self, value: bytes, name: str) -> None:
        """Raises TooLarge when it is used up."""
        self._json_left -= len(value)
        if self._json_left < 0:
            raise _too_large(f"{MAX_JSON_BYTES} bytes of numbers, lists and objects", name)


def _too_large(bound: str, name: str) -> TooLarge:
    return TooLarge(
        f"the form has more than {bound}; send the call as JSON.", where=name[:MAX_PLACE_CHARS]
    )


def _one(name: str, value: bytes, schemas: tuple[Mapping[str, Any], ...], budget: _Budget) -> Any:
    kinds = {kind_in_form(one) for one in schemas}
    if "bytes" in kinds:
        return value
    budget.take_text(value, name)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        what = kind_of_content(value) or "not UTF-8"
        raise MalformedBody(
            f"the value of {quote_names(name)} is {what}, and the field takes no bytes.",
            where=name[:MAX_PLACE_CHARS],
        ) from None
    if "text" in kinds:
        return text
    if not text.strip():
        return OMITTED
    if "boolean" in kinds and text.strip().lower() in _FLAGS:
        return _FLAGS[text.strip().lower()]
    budget.take_json(value, name)
    try:
        return loads(value)
    except MalformedBody:
        return text


def kind_in_form(schema: Mapping[str, Any]) -> str:
    """What a value of a schema is in a form: ``bytes``, ``text``, ``boolean`` or ``json``."""
    kind = schema.get("type")
    values = schema.get("enum", [schema["const"]] if "const" in schema else ())
    if kind == "string":
        return "bytes" if schema.get("format") in ("byte", "binary") else "text"
    if kind is None and values and all(isinstance(value, str) for value in values):
        return "text"
    return "boolean" if kind == "boolean" else "json"


def alternatives(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int = 8
) -> Iterable[Mapping[str, Any]]:
    """Yield the schemas that a value may have, references and ``anyOf`` followed."""
    reference = schema.get("$ref", "")
    if reference and depth:
        target = definitions.get(reference.rpartition("/")[2], {})
        yield from alternatives(target, definitions, depth - 1)
    elif depth and (options := schema.get("anyOf") or schema.get("oneOf")):
        for option in options:
            yield from alternatives(option, definitions, depth - 1)
    else:
        yield schema
