"""``${NAME}`` in the values of ``with:``: a text that is not in the file, put in when the stage is constructed.

It may be all of a text or a part of it, at any depth of lists and mappings, not in a key. ``$${`` is the two characters ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from runtime.declaration.complaints import refusal
from runtime.declaration.declared import JsonObject
from runtime.declaration.place import Loc
from runtime.wording import shown

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
_MARKED: Final = re.compile(rf"\$\$\{{|\$\{{(?P<name>{_NAME})\}}|\$\{{")


def is_name(text: str) -> bool:
    """Whether a reference can name it: letters, digits and ``_``, no digit first."""
    return re.fullmatch(_NAME, text) is not None


def references(value: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """Every name in a value, with the place of the text that it stands in."""
    for place, text in _texts(value, loc):
        yield from ((place, found["name"]) for found in _MARKED.finditer(text) if found["name"])


def names(values: Iterable[Any]) -> list[str]:
    """Every name in some values, once, in their order."""
    return list(dict.fromkeys(name for value in values for _, name in references(value)))


def filled(value: Any, find: Callable[[str], str]) -> Any:
    """The value with what ``find`` gives for each name; the value itself stays as it is."""
    if isinstance(value, str):
        return _MARKED.sub(lambda found: find(found["name"]) if found["name"] else "${", value) if "${" in value else value
    if isinstance(value, dict):
        return {key: filled(part, find) for key, part in value.items()}
    return [filled(part, find) for part in value] if isinstance(value, list) else value


def _texts(value: Any, loc: Loc) -> Iterator[tuple[Loc, str]]:
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _texts(part, (*loc, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts(part, (*loc, index))


def _check(values: dict[str, Any]) -> dict[str, Any]:
    for place, text in _texts(values, ()):
        if any(found.group() == "${" for found in _MARKED.finditer(text)):
            advice = "Write ${NAME} with letters, digits and '_', or $${ for the two characters."
            raise refusal(f"{shown(text)} has '${{' in it and no name. {advice}", place)
    return values


WithValues = Annotated[JsonObject, AfterValidator(_check)]
"""What stands under ``with``."""
