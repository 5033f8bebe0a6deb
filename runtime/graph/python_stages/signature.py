"""A Python stage's signature read as its schema: what it takes, what it gives, whether it takes a
batch of rows or one row, and whether it yields.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, get_args, get_origin

import typing_extensions

from runtime.graph.graph import Port
from runtime.graph.python_stages.annotation_refusals import (
    SignatureError,
    media_type_of,
    read_value_type,
    refuse_lost_shape,
    refuse_misplaced,
    refuse_no_file,
)
from runtime.types import headers
from runtime.types.annotations import KEPT, Rows
from runtime.types.call_handles import (
    HandleError,
    advice_on_quotes,
    annotation_of,
    called_function,
)
from runtime.types.returned_values import DeclaredReturn, declared_return, named_in
from runtime.types.value_types import (
    ValueType,
    key_annotation,
    read_hints,
    required_keys,
)

_YIELDS: Final[dict[Any, bool]] = {
    Iterator: False,
    Generator: False,
    AsyncIterator: True,
    AsyncGenerator: True,
}
"""Return types of a stage that yields, and whether it runs on the event loop."""


@dataclass(frozen=True, slots=True)
class HandleParameter:
    """A parameter that is given a function, to be called (``runtime.types.call_handles``).

    Attributes:
        position: among all parameters, from 0.
        name: of the parameter.
        function: the name of the function.
    """

    position: int
    name: str
    function: str


@dataclass(frozen=True, slots=True)
class Signature:
    """A Python stage as the graph sees it.

    Attributes:
        params: what it takes, in order, but for functions.
        gives: value name to type; one unnamed value (key ``""``) takes the stage's name.
        takes_rows: it is called once with all rows of a batch, each parameter a ``Rows[...]``.
        gives_columns: it returns one column a value instead of one value a row.
        is_async: it runs on the event loop instead of a worker thread.
        is_generator: it yields; ``gives`` is what each item has.
        returns: by the names of ``gives``, what a returned value must be; None: anything.
        expected: where it gives several values, what its return type says that these are, in words.
        handles: the functions that it is given with each call, in order.
    """

    params: tuple[Port, ...]
    gives: dict[str, ValueType]
    takes_rows: bool
    gives_columns: bool
    is_async: bool
    is_generator: bool = False
    returns: dict[str, DeclaredReturn | None] = field(default_factory=dict)
    expected: str = ""
    handles: tuple[HandleParameter, ...] = ()


@dataclass(frozen=True, slots=True)
class _Returned:
    """What a stage is annotated to return for a row, or to yield.

    Attributes:
        annotation: of one row.
        hints: one row's annotation by name of the value.
        values: type by name of the value.
        is_by_rows: the annotation is ``Rows[...]``, or has columns.
        has_columns: it is a TypedDict of ``Rows[...]``.
    """

    annotation: Any
    hints: dict[str, Any]
    values: dict[str, ValueType]
    is_by_rows: bool
    has_columns: bool


def read_signature(function: Callable[..., Any]) -> Signature:
    """Read the signature of a function, or of the ``__call__`` of an object or a class.

    A coroutine function behind a decorator that names what it wraps (``functools.wraps``) counts as
    one.

    Raises:
        SignatureError: a missing annotation, ``*args``, a keyword-only parameter, columns without
            ``Rows`` parameters, or rows in a coroutine or in a stage that yields.
    """
    target, is_bound = _callable_of(function)
    if isinstance(target, types.MethodWrapperType | types.WrapperDescriptorType):
        raise SignatureError(
            f"is of type {type(function).__name__}, whose parameters are not named. Write a"
            " function or a class of your own that calls it."
        )
    hints = _type_hints(target)
    try:
        parameters = list(inspect.signature(target).parameters.values())[1 if is_bound else 0 :]
    except ValueError as error:
        raise SignatureError(
            "is not written in Python, and what it takes cannot be read. Write a function of your"
            " own that calls it."
        ) from error
    handles = read_handles(parameters, hints)
    given = {handle.name for handle in handles}
    read = [
        _read_parameter(parameter, hints) for parameter in parameters if parameter.name not in given
    ]
    if "return" not in hints:
        raise SignatureError(
            "has no return annotation; write what it gives, such as '-> float' or a TypedDict."
        )
    takes_rows = any(is_rows for _, is_rows in read)
    single = [param.name for param, is_rows in read if not is_rows]
    if takes_rows and single:
        raise SignatureError(
            f"takes all rows at once, so {single[0]!r} has a value for each row too; annotate it as"
            " Rows[...]."
        )
    if takes_rows and handles:
        first = handles[0]
        raise SignatureError(
            f"takes all rows at once, which are of several callers, and {first.name!r} calls"
            f" {first.function!r} for one of them. Write a stage `function: {first.function}`"
            " before it, or take one row: parameters without Rows."
        )
    item = _yielded_annotation(target, hints["return"])
    if item is not None and takes_rows:
        raise SignatureError(
            "yields, so it is called once a row; annotate its parameters without Rows."
        )
    returned = _read_return(hints["return"] if item is None else item)
    if item is not None and any(value.media_type for value in returned.values.values()):
        raise SignatureError(
            "yields files, and the items of a stream are JSON. Return the whole file, or yield"
            " `bytes` without a MediaType."
        )
    if item is not None and returned.is_by_rows:
        raise SignatureError("yields the items of one row; annotate what it yields without Rows.")
    if returned.is_by_rows and not takes_rows:
        raise SignatureError(
            "returns Rows but takes none; annotate the parameter that carries all rows as"
            " Rows[...]."
        )
    if takes_rows and not returned.is_by_rows:
        raise SignatureError(
            "takes Rows and must return as many: annotate '-> Rows[...]' or a TypedDict of Rows."
        )
    is_async = _is_coroutine(target) if item is None else _YIELDS[get_origin(hints["return"])]
    if is_async and takes_rows:
        raise SignatureError(
            "is a coroutine, which is called once a row; annotate its parameters without Rows, or"
            " make it a plain 'def'."
        )
    return Signature(
        tuple(param for param, _ in read),
        returned.values,
        takes_rows,
        returned.has_columns,
        is_async,
        is_generator=item is not None,
        returns={name: declared_return(hint) for name, hint in returned.hints.items()},
        expected=named_in(returned.annotation) if "" not in returned.values else "",
        handles=handles,
    )


def read_handles(
    parameters: Iterable[inspect.Parameter],
    hints: Mapping[str, Any],
    *,
    by_name: bool = False,
) -> tuple[HandleParameter, ...]:
    """The parameters that are given a function.

    Args:
        hints: the annotations by name of the parameter.
        by_name: they are given by name, so that those behind ``*`` can be.

    Raises:
        SignatureError: one of them is written so that it cannot be.
    """
    found = []
    for position, parameter in enumerate(parameters):
        name = parameter.name
        try:
            function = called_function(hints.get(name))
        except HandleError as error:
            raise SignatureError(f"parameter {name!r} {error}") from None
        if function is None:
            continue
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD and not (
            by_name and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ):
            raise SignatureError(
                f"parameter {name!r} must be an ordinary one to be given a function: annotate it"
                f" as {annotation_of(function)}, without '*' and '/'."
            )
        if parameter.default is not inspect.Parameter.empty:
            raise SignatureError(
                f"parameter {name!r} is given the function {function!r}, and its default is never"
                " taken. Delete the default."
            )
        found.append(HandleParameter(position, name, function))
    return tuple(found)


def _callable_of(function: Callable[..., Any]) -> tuple[Any, bool]:
    """What is called, and whether its first parameter is ``self``."""
    if inspect.isroutine(function):
        return function, False
    of = function if isinstance(function, type) else type(function)
    return of.__call__, inspect.isfunction(inspect.getattr_static(of, "__call__"))


def _type_hints(target: Any) -> dict[str, Any]:
    try:
        return read_hints(target)
    except NameError as error:
        raise SignatureError(
            f"annotation names {error.name!r}, which its module does not define."
            f"{advice_on_quotes(getattr(target, '__annotations__', {}).values(), error.name)}"
        ) from error
    except Exception as error:  # whatever evaluating a user's annotation raises
        raise SignatureError(
            f"an annotation cannot be read: {type(error).__name__}: {str(error).rstrip('.')}."
        ) from error


def _is_coroutine(target: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        inspect.unwrap(target)
    )


def _yielded_annotation(target: Callable[..., Any], returns: Any) -> Any | None:
    """What a stage that yields is annotated to yield; None for one that does not yield.

    Raises:
        SignatureError: a generator that is not annotated as one, or the reverse.
    """
    origin, arguments = get_origin(returns) or returns, get_args(returns)
    if not isinstance(origin, type) or origin not in _YIELDS:
        for is_generator, written in (
            (inspect.isgeneratorfunction, "Iterator"),
            (inspect.isasyncgenfunction, "AsyncIterator"),
        ):
            if is_generator(target):
                raise SignatureError(
                    f"yields, and is not annotated so; write '-> {written}[T]', where T is what it"
                    " yields."
                )
        return None
    if not arguments:
        name = origin.__name__
        raise SignatureError(
            f"returns {name} without saying of what; write '-> {name}[T]', where T is what it"
            " yields."
        )
    if _YIELDS[origin] and inspect.isgeneratorfunction(target):
        raise SignatureError(
            "yields in a plain function and is annotated as asynchronous; write '-> Iterator[T]'."
        )
    if inspect.isasyncgenfunction(target) and not _YIELDS[origin]:
        raise SignatureError("yields in an 'async def'; write '-> AsyncIterator[T]'.")
    if inspect.iscoroutinefunction(target):
        raise SignatureError(
            f"is a coroutine that returns {origin.__name__}; let it yield, or make it a plain"
            " function."
        )
    return arguments[0]


def _read_parameter(parameter: inspect.Parameter, hints: dict[str, Any]) -> tuple[Port, bool]:
    """A parameter, and whether it takes the values of all rows."""
    name = parameter.name
    if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        raise SignatureError(
            f"parameter {name!r} must be an ordinary one: its name is the name of the value that it"
            f" takes. Write `{name}: T` without '*' and '/'."
        )
    if name not in hints:
        raise SignatureError(
            f"parameter {name!r} has no annotation, and its type is the function's schema. Write"
            f" what it takes: `{name}: str`, or another type."
        )
    annotation, is_rows = _row_annotation(hints[name])
    if (media := media_type_of(annotation)) is not None:
        raise SignatureError(
            f"parameter {name!r}: {media} says what an answer is, and a stage takes this. Write"
            f" `{name}: bytes`; what callers may send as it is stands under 'accepts'."
        )
    refuse_lost_shape(annotation, hints[name], name)
    refuse_misplaced(annotation, name)
    is_state = get_origin(annotation) is Annotated and KEPT in get_args(annotation)[1:]
    if is_state and parameter.default is not inspect.Parameter.empty:
        raise SignatureError(
            f"state {name!r} has a default, which is never taken: the first call of a sequence gets"
            f" None. Delete the default, and write 'if {name} is None' in the stage."
        )
    header = headers.header_of(annotation)
    if header is not None and (
        reason := headers.header_issue(
            header, annotation, parameter.default, inspect.Parameter.empty
        )
    ):
        raise SignatureError(f"parameter {name!r} {reason}")
    type_ = read_value_type(annotation, name)
    return Port(name, type_, annotation, parameter.default, is_state, header), is_rows


def _row_annotation(annotation: Any) -> tuple[Any, bool]:
    """One row's annotation, and whether it is written inside ``Rows``."""
    if get_origin(annotation) is Rows:
        return get_args(annotation)[0], True
    if get_origin(annotation) is Annotated and get_origin(get_args(annotation)[0]) is Rows:
        inner, *notes = get_args(annotation)
        return Annotated[get_args(inner)[0], *notes], True
    return annotation, False


def _read_return(annotation: Any) -> _Returned:
    row, is_by_rows = _row_annotation(annotation)
    refuse_lost_shape(row, annotation, "return")
    refuse_misplaced(row, "return")
    refuse_no_file(row, "return")
    if not typing_extensions.is_typeddict(row):
        return _Returned(row, {"": row}, {"": read_value_type(row, "return")}, is_by_rows, False)
    hints: dict[str, Any] = {}
    columns = set()
    for name, hint in read_hints(row).items():
        written = key_annotation(hint)
        hints[name], is_column = _row_annotation(written)
        refuse_lost_shape(hints[name], written, name)
        refuse_misplaced(hints[name], name)
        refuse_no_file(hints[name], name)
        columns.add(is_column)
    has_columns = True in columns
    if has_columns and (is_by_rows or False in columns):
        raise SignatureError(
            f"{row.__name__} mixes Rows and single values; make every field Rows[...], or none."
        )
    required = required_keys(row)
    values = {
        name: replace(read_value_type(hint, name), may_lack=name not in required)
        for name, hint in hints.items()
    }
    return _Returned(row, hints, values, is_by_rows or has_columns, has_columns)
