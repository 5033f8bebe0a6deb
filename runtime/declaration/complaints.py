"""Everything that is wrong with plain data, in our words: a pydantic model is asked until it has nothing more to say.

Pydantic compares fields with each other only once each of them is right, so one typing mistake would hide a contradiction
elsewhere. Here what was refused is set aside and the rest is asked again. A later complaint that concerns something set aside is
dropped: it is about a default that nobody wrote.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from runtime.declaration.place import Loc
from runtime.wording import near, shown, unknown, unwanted

_Model = TypeVar("_Model", bound=BaseModel)

MAX_COMPLAINTS: Final = 1000
"""Complaints after which no more are sought; nobody reads them, and each costs a search for what was meant."""

_OURS: Final = "wakeful"

_WANTED: Final = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a string",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}

_BOUNDS: Final = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing wrong in plain data: where, and a sentence."""

    loc: Loc
    message: str


def refusal(message: str, at: Loc = (), *, also: Sequence[Loc] = ()) -> PydanticCustomError:
    """What a validator of ours raises.

    Args:
        message: the sentence.
        at: the place of the fault, seen from the validated value.
        also: other places that the sentence speaks of; it is not said when one of them was refused itself.
    """
    return PydanticCustomError(_OURS, "{message}", {"message": message, "at": at, "also": tuple(also)})


def complaints(model: type[_Model], data: Any) -> tuple[_Model | None, list[Complaint]]:
    """The data as that model, or None beside everything that is wrong with it."""
    found: list[Complaint] = []
    aside: set[Loc] = set()
    rest = data
    while True:
        try:
            value = model.model_validate(rest, by_alias=True, by_name=False)
        except ValidationError as error:
            details = sorted(error.errors(include_url=False)[:MAX_COMPLAINTS], key=lambda detail: detail["type"] != "extra_forbidden")
        else:
            return (None if found else value), found
        if not aside:
            rest = copy.deepcopy(data)
        removed: set[Loc] = set()
        for detail in details:
            places = _places(model, detail, data)
            if not any(_within(place, aside) for place in places):
                found.append(Complaint(places[0], _sentence(model, detail)))
            aside |= _meant(model, detail, data)
            if not _within(places[0], removed) and (gone := _set_aside(rest, places[0])):
                removed.add(gone)
        if not removed or len(found) >= MAX_COMPLAINTS:
            return None, found
        aside |= removed


def _within(loc: Loc, places: set[Loc]) -> bool:
    return any(loc[:depth] in places for depth in range(1, len(loc) + 1))


def _places(model: type[BaseModel], detail: ErrorDetails, data: Any) -> list[Loc]:
    """Where a detail's fault stands in the data, and the other places it speaks of."""
    loc = tuple(detail["loc"])
    context = detail["ctx"] if detail["type"] == _OURS else {"at": (), "also": ()}
    places = [loc + context["at"], *(loc + place for place in context["also"])]
    written: Callable[[Loc, Any], Loc] = getattr(model, "written", lambda place, _: place)
    return [written(place, data) for place in places]


def _set_aside(data: Any, loc: Loc) -> Loc:
    """Delete the key at a place, or the nearest key around it; the place deleted, or ``()`` if there is none left."""
    holders, holder = [], data
    for key in loc:
        holders.append(holder)
        try:
            holder = holder[key]
        except (KeyError, IndexError, TypeError):
            break
    for depth in range(len(holders) - 1, -1, -1):
        if isinstance(holders[depth], dict) and loc[depth] in holders[depth]:
            del holders[depth][loc[depth]]
            return loc[: depth + 1]
    return ()


def _meant(model: type[BaseModel], detail: ErrorDetails, data: Any) -> set[Loc]:
    """The key that an unknown one was meant to be: that it is missing need not be said as well."""
    if detail["type"] != "extra_forbidden":
        return set()
    *around, key = detail["loc"]
    meant = near(str(key), known_keys(model, tuple(around)))
    return {(*around, meant)} if meant and meant not in reduce(getitem, around, data) else set()


def _sentence(model: type[BaseModel], detail: ErrorDetails) -> str:
    fault, value = detail["type"], detail["input"]
    context = detail.get("ctx", {})
    if fault == _OURS:
        return str(context["message"])
    if fault == "extra_forbidden":
        return _unknown_key(model, tuple(detail["loc"]))
    if fault == "string_too_short":
        return "an empty string. Write one, or delete the key."
    if fault == "missing":
        return "missing, and it has no default."
    if fault == "literal_error":
        return f"{shown(value)} is not one of {context['expected'].replace(' or ', ', ')}."
    if fault in _BOUNDS:
        return f"{shown(value)} is given, {_BOUNDS[fault].format(**context)} is wanted."
    return unwanted(value, _WANTED[fault]) if fault in _WANTED else f"{detail['msg']}."


def _unknown_key(model: type[BaseModel], loc: Loc) -> str:
    *around, key = loc
    level = _level(model, tuple(around))
    for name, part in (*_parts(level).items(), *_parts(model).items()):
        if key in known_keys(part):
            return f"unknown key here; {key} belongs under {name}."
    return unknown("key", str(key), known_keys(level))


def known_keys(model: type[BaseModel], loc: Loc = ()) -> list[str]:
    """The keys that a model knows at a place, in the file's spelling and in the order declared."""
    level = _level(model, loc)
    keys = [field.alias or name for name, field in level.model_fields.items()]
    return [*keys, *getattr(level, "SHORT_KEYS", ())]


def _level(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """The model at a place within a model."""
    for key in loc:
        if isinstance(key, str):
            model = _parts(model)[key]
    return model


def _parts(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = {field.alias or name: _model_in(field.annotation) for name, field in model.model_fields.items()}
    return {key: part for key, part in found.items() if part}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in ``Model``, ``Model | None`` or ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((part for argument in get_args(annotation) if (part := _model_in(argument))), None)
