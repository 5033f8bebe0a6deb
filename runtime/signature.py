"""A stage's signature read as its schema: what it takes, what it gives, whether it works row by row."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from runtime.annotations import Rows
from runtime.values import ValueType, of_annotation


class SignatureError(TypeError):
    """A signature that cannot be a stage's; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: the name of a request field or of an earlier value.

    Attributes:
        annotation: one row's annotation as written, pydantic constraints included.
        rows: whether it receives all rows at once.
        default: what a missing request field gets; ``inspect.Parameter.empty`` makes the field required.
    """

    name: str
    annotation: Any
    type: ValueType
    rows: bool
    default: Any

    @property
    def required(self) -> bool:
        """Whether a request must carry the field."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Signature:
    """A stage as the graph sees it.

    Attributes:
        params: what it takes, in order.
        gives: value name to type; one unnamed value (key ``""``) takes the stage's name.
        all_rows: it is called once with all rows.
        columns: it returns one column a value instead of one value a row.
        is_async: it runs on the event loop instead of a worker thread.
    """

    params: tuple[Param, ...]
    gives: dict[str, ValueType]
    all_rows: bool
    columns: bool
    is_async: bool


def read(function: Callable[..., Any]) -> Signature:
    """Reads a function's, or an object's ``__call__``'s, signature.

    Raises:
        SignatureError: a missing annotation, ``*args``, a keyword-only parameter, or columns without ``Rows`` parameters.
    """
    target: Any = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise SignatureError(f"annotation names {error.name!r}, which its module does not define.") from error
    params = tuple(_param(parameter, hints) for parameter in inspect.signature(target).parameters.values() if parameter.name != "self")
    if "return" not in hints:
        raise SignatureError("has no return annotation; write what it gives, such as '-> float' or a TypedDict.")
    all_rows = any(param.rows for param in params)
    single = [param.name for param in params if not param.rows]
    if all_rows and single:
        raise SignatureError(f"takes all rows at once, so {single[0]!r} has a value for each row too; annotate it as Rows[...].")
    gives, by_rows, columns = _gives(hints["return"])
    if by_rows and not all_rows:
        raise SignatureError("returns Rows but takes none; annotate the parameter that carries all rows as Rows[...].")
    if all_rows and not by_rows:
        raise SignatureError("takes Rows and must return as many: annotate '-> Rows[...]' or a TypedDict of Rows.")
    return Signature(params, gives, all_rows, columns, inspect.iscoroutinefunction(target))


def _param(parameter: inspect.Parameter, hints: dict[str, Any]) -> Param:
    name = parameter.name
    if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        raise SignatureError(f"parameter {name!r} must be an ordinary one; its name is the name of a value.")
    if name not in hints:
        raise SignatureError(f"parameter {name!r} has no annotation; its type is the function's schema.")
    annotation, rows = _row(hints[name])
    return Param(name, annotation, _value(annotation, name), rows, parameter.default)


def _row(annotation: Any) -> tuple[Any, bool]:
    """One row's annotation, and whether it stood inside ``Rows``."""
    if get_origin(annotation) is Rows:
        return get_args(annotation)[0], True
    if get_origin(annotation) is Annotated and get_origin(get_args(annotation)[0]) is Rows:
        inner, *notes = get_args(annotation)
        return Annotated[get_args(inner)[0], *notes], True
    return annotation, False


def _value(annotation: Any, name: str) -> ValueType:
    try:
        return of_annotation(annotation)
    except TypeError as error:
        raise SignatureError(f"{name!r}: {error}.") from error


def _gives(annotation: Any) -> tuple[dict[str, ValueType], bool, bool]:
    """Named value types, whether the return is by rows, and whether by columns."""
    row, by_rows = _row(annotation)
    if not typing.is_typeddict(row):
        return {"": _value(row, "return")}, by_rows, False
    fields = {name: _row(hint) for name, hint in typing.get_type_hints(row, include_extras=True).items()}
    columns = [rows for _, rows in fields.values()]
    if any(columns) and (by_rows or not all(columns)):
        raise SignatureError(f"{row.__name__} mixes Rows and single values; make every field Rows[...], or none.")
    return {name: _value(hint, name) for name, (hint, _) in fields.items()}, by_rows or any(columns), any(columns)
