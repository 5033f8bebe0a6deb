"""Finds everything that is wrong with plain data at once, in Wakeful's words: a pydantic model
validates the data again and again until it finds nothing more.

Pydantic compares fields with each other only once each of them is right, so one typing mistake
would hide a contradiction elsewhere. Here a refused key is set aside and the rest is validated
again. A later issue that concerns a key that was set aside is dropped: it is about a default that
the file does not have.

``StrictModel`` is what all declared models have in common: strict, frozen, and finite plain data
where it is free in form. A key has one form in messages, that of ``format_path``:
``applications[0].args.graph[1].onnx``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from runtime.system.messages import (
    expected_message,
    hide_keys,
    meant_key,
    quote,
    unknown_key_message,
)

KeyPath = tuple[str | int, ...]
"""A path as steps: keys and list positions."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LAST_STEP: Final = re.compile(r"(^|\.)[A-Za-z0-9_-]+$|\[[^\[\]]*\]$")


def child_path(path: str, key: str | int) -> str:
    """The path of a key, or of a list position, within a path."""
    if isinstance(key, int) or not _PLAIN.fullmatch(key) or hide_keys(key) != key:
        return f"{path}[{quote(key)}]"
    return f"{path}.{key}" if path else key


def format_path(path: KeyPath) -> str:
    """The steps as one text; empty for the whole file."""
    return reduce(child_path, path, "")


def parent_path(path: str) -> str:
    """The path of the key that contains this one; empty for the whole file."""
    last = _LAST_STEP.search(path)
    return path[: last.start()] if last else ""


class StrictModel(BaseModel):
    """A part of a declaration. Unknown keys are refused, no value is converted, and a key has one
    spelling in a file.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_by_alias=True,
        validate_by_name=True,
    )


def _check_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise validation_error(
            "only what JSON can say stands here: mappings, lists, text, finite numbers, true, false"
            " and null."
        ) from error
    return value


def _check_number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise validation_error(expected_message(value, "a number"))
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_check_json)]
Number = Annotated[int | float, PlainValidator(_check_number), WithJsonSchema({"type": "number"})]


_Model = TypeVar("_Model", bound=BaseModel)

MAX_ISSUES: Final = 1000
"""Issues after which validation stops: a longer list is not read, and each issue costs a search for
the key that was meant.
"""

_WAKEFUL: Final = "wakeful"

COMMAND_KEY: Final = (
    "a file has no such key: commands write it, into what they hand to Ray. Delete it."
)
"""What is said of a key that commands write: of one in ``COMMAND_KEYS`` of a model, by key with
what may have been meant.
"""

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
class ValidationIssue:
    """One thing wrong in plain data: the path of the key, and a sentence."""

    path: KeyPath
    message: str


def validation_error(
    message: str, at: KeyPath = (), *, also: Sequence[KeyPath] = ()
) -> PydanticCustomError:
    """The error that a Wakeful validator raises.

    Args:
        message: the sentence.
        at: the path of the fault, within the validated value.
        also: other paths that the sentence mentions; it is dropped when one of them was refused
            itself.
    """
    return PydanticCustomError(
        _WAKEFUL, "{message}", {"message": message, "at": at, "also": tuple(also)}
    )


def validate_all(model: type[_Model], data: Any) -> tuple[_Model | None, list[ValidationIssue]]:
    """The data as that model, or None, and everything that is wrong with it."""
    found: list[ValidationIssue] = []
    set_aside: set[KeyPath] = set()
    remaining = data
    while True:
        try:
            value = model.model_validate(remaining, by_alias=True, by_name=False)
        except ValidationError as error:
            details = sorted(
                _own_faults(error.errors(include_url=False))[:MAX_ISSUES],
                key=lambda detail: detail["type"] != "extra_forbidden",
            )
        else:
            return (None if found else value), found
        if not set_aside:
            remaining = copy.deepcopy(data)
        removed: set[KeyPath] = set()
        for detail in details:
            paths = _paths_of(model, detail, data)
            if not any(_is_within(path, set_aside) for path in paths):
                found.append(ValidationIssue(paths[0], _describe(model, detail)))
            set_aside |= _intended_keys(model, detail, data)
            if not _is_within(paths[0], removed) and (path := _remove(remaining, paths[0])):
                removed.add(path)
        if not removed or len(found) >= MAX_ISSUES:
            return None, found
        set_aside |= removed


def _own_faults(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """What is wrong by itself: pydantic also calls a list too short of which it has refused an
    element.
    """
    lists = {detail["loc"][:-1] for detail in details}
    return [
        detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in lists
    ]


def _is_within(path: KeyPath, paths: set[KeyPath]) -> bool:
    return any(path[:depth] in paths for depth in range(1, len(path) + 1))


def _paths_of(model: type[BaseModel], detail: ErrorDetails, data: Any) -> list[KeyPath]:
    """The path of a fault in the data, and the other paths that its sentence mentions."""
    path = tuple(detail["loc"])
    context = detail["ctx"] if detail["type"] == _WAKEFUL else {"at": (), "also": ()}
    paths = [path + context["at"], *(path + other for other in context["also"])]
    as_written: Callable[[KeyPath, Any], KeyPath] = getattr(
        model, "path_as_written", lambda path, _: path
    )
    return [as_written(path, data) for path in paths]


def _remove(data: Any, path: KeyPath) -> KeyPath:
    """Delete the key at a path, or the nearest key that contains it; returns the path deleted, or
    ``()`` if none is left.
    """
    holders, holder = [], data
    for key in path:
        holders.append(holder)
        try:
            holder = holder[key]
        except (KeyError, IndexError, TypeError):
            break
    for depth in range(len(holders) - 1, -1, -1):
        if isinstance(holders[depth], dict) and path[depth] in holders[depth]:
            del holders[depth][path[depth]]
            return path[: depth + 1]
    return ()


def _intended_keys(model: type[BaseModel], detail: ErrorDetails, data: Any) -> set[KeyPath]:
    """The key that an unknown one was meant to be: that it is missing is not reported as well."""
    if detail["type"] != "extra_forbidden":
        return set()
    *parent, key = detail["loc"]
    if key in getattr(_model_at(model, tuple(parent)), "COMMAND_KEYS", ()):
        return set()
    meant = meant_key(str(key), known_keys(model, tuple(parent)))
    return {(*parent, meant)} if meant and meant not in reduce(getitem, parent, data) else set()


def _describe(model: type[BaseModel], detail: ErrorDetails) -> str:
    fault, value = detail["type"], detail["input"]
    context = detail.get("ctx", {})
    if fault == _WAKEFUL:
        return str(context["message"])
    if fault == "extra_forbidden":
        return _describe_unknown_key(model, tuple(detail["loc"]))
    if fault == "too_short":
        return f"{context['actual_length']} are given, at least {context['min_length']} is wanted."
    if fault == "string_too_short":
        return "an empty string. Write one, or delete the key."
    if fault == "missing":
        return "missing, and it has no default."
    if fault == "literal_error":
        return f"{quote(value)} is not one of {context['expected'].replace(' or ', ', ')}."
    if fault in _BOUNDS:
        return f"{quote(value)} is given, {_BOUNDS[fault].format(**context)} is wanted."
    return expected_message(value, _WANTED[fault]) if fault in _WANTED else f"{detail['msg']}."


def _describe_unknown_key(model: type[BaseModel], path: KeyPath) -> str:
    *parent, key = path
    level = _model_at(model, tuple(parent))
    command_keys = getattr(level, "COMMAND_KEYS", {})
    if key in command_keys:
        return " ".join(filter(None, (COMMAND_KEY, command_keys[key])))
    free = getattr(level, "FREE_SECTIONS", {})
    nested = {
        f"{name}.{inner}": section
        for name, outer in free.items()
        for inner, section in _sections(outer).items()
    }
    near = (_sections(level), free, _sections(model), nested)
    for name, section in (item for sections in near for item in sections.items()):
        if key in known_keys(section):
            return f"unknown key here; {key} belongs under {name}."
    return unknown_key_message(str(key), known_keys(level))


def known_keys(model: type[BaseModel], path: KeyPath = ()) -> list[str]:
    """The keys that a model knows at a path, in the file's spelling and in the order declared."""
    level = _model_at(model, path)
    keys = [field.alias or name for name, field in level.model_fields.items()]
    return [*keys, *getattr(level, "SHORT_KEYS", ())]


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The model at a path within a model; a key that has none is a name in a mapping of models."""
    for key in path:
        if isinstance(key, str):
            model = _sections(model).get(key, model)
    return model


def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = {
        field.alias or name: _model_in(field.annotation)
        for name, field in model.model_fields.items()
    }
    return {key: section for key, section in found.items() if section}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in ``Model``, ``Model | None`` or ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        (model for argument in get_args(annotation) if (model := _model_in(argument))), None
    )
