"""A stage's signature read as its schema: what it takes, what it gives, whether it works row by row, and whether it yields."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args, get_origin

from runtime.annotations import KEPT, Rows
from runtime.values import ValueType, of_annotation

_YIELDS: Final[dict[Any, bool]] = {Iterator: False, Generator: False, AsyncIterator: True, AsyncGenerator: True}
"""Return types of a stage that yields, and whether it runs on the event loop."""


class SignatureError(TypeError):
    """A signature that cannot be a stage's; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: the name of a request field or of an earlier value.

    Attributes:
        annotation: one row's annotation as written, pydantic constraints included.
        rows: whether it receives all rows at once.
        default: what a missing request field gets; ``inspect.Parameter.empty`` makes the field required.
        state: it is what the call before in the sequence left.
    """

    name: str
    annotation: Any
    type: ValueType
    rows: bool
    default: Any
    state: bool = False

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
        streams: it yields; ``gives`` is what each item has.
    """

    params: tuple[Param, ...]
    gives: dict[str, ValueType]
    all_rows: bool
    columns: bool
    is_async: bool
    streams: bool = False


def read(function: Callable[..., Any]) -> Signature:
    """Reads a function's, or an object's ``__call__``'s, signature.

    Raises:
        SignatureError: a missing annotation, ``*args``, a keyword-only parameter, columns without ``Rows`` parameters, or rows in a
            stage that yields.
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
    item = _item(target, hints["return"])
    if item is not None and all_rows:
        raise SignatureError("yields, so it is called once a row; annotate its parameters without Rows.")
    gives, by_rows, columns = _gives(hints["return"] if item is None else item)
    if item is not None and by_rows:
        raise SignatureError("yields the items of one row; annotate what it yields without Rows.")
    if by_rows and not all_rows:
        raise SignatureError("returns Rows but takes none; annotate the parameter that carries all rows as Rows[...].")
    if all_rows and not by_rows:
        raise SignatureError("takes Rows and must return as many: annotate '-> Rows[...]' or a TypedDict of Rows.")
    is_async = inspect.iscoroutinefunction(target) if item is None else _YIELDS[get_origin(hints["return"])]
    return Signature(params, gives, all_rows, columns, is_async, item is not None)


def _item(target: Callable[..., Any], returns: Any) -> Any | None:
    """What a stage that yields is annotated to yield; None of one that does not.

    Raises:
        SignatureError: a generator that is annotated as none, or the other way about.
    """
    origin, arguments = get_origin(returns) or returns, get_args(returns)
    if origin not in _YIELDS:
        for yields, written in ((inspect.isgeneratorfunction, "Iterator"), (inspect.isasyncgenfunction, "AsyncIterator")):
            if yields(target):
                raise SignatureError(f"yields, and is not annotated so; write '-> {written}[T]', where T is what it yields.")
        return None
    if not arguments:
        name = origin.__name__
        raise SignatureError(f"returns {name} without saying of what; write '-> {name}[T]', where T is what it yields.")
    if _YIELDS[origin] and inspect.isgeneratorfunction(target):
        raise SignatureError("yields in a plain function and is annotated as asynchronous; write '-> Iterator[T]'.")
    if inspect.isasyncgenfunction(target) and not _YIELDS[origin]:
        raise SignatureError("yields in an 'async def'; write '-> AsyncIterator[T]'.")
    if inspect.iscoroutinefunction(target):
        raise SignatureError(f"is a coroutine that returns {origin.__name__}; let it yield, or make it a plain function.")
    return arguments[0]


def _param(parameter: inspect.Parameter, hints: dict[str, Any]) -> Param:
    name = parameter.name
    if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        raise SignatureError(f"parameter {name!r} must be an ordinary one; its name is the name of a value.")
    if name not in hints:
        raise SignatureError(f"parameter {name!r} has no annotation; its type is the function's schema.")
    annotation, rows = _row(hints[name])
    state = get_origin(annotation) is Annotated and KEPT in get_args(annotation)[1:]
    return Param(name, annotation, _value(annotation, name), rows, parameter.default, state)


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
