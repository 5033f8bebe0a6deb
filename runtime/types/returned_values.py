"""Whether what a stage returned is what its annotation says: asked of each value, so the usual
answer costs one look into a set.

Asked is what a value is, and the dtype and shape of an array; not what is within a list or an
object (a first run before the function is ready looks at that, ``execution.verification``). What is
the same value in another form is taken: a bool becomes the int that is declared, an array without
dimensions the number; a tuple or an array for a list stays what it is.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
    Set,
)
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

import numpy as np
import typing_extensions

from runtime.types import tensors
from runtime.types.files import File, discard, file_issue
from runtime.types.tensors import shape_fits
from runtime.types.value_types import ABSTRACT, ValueType, has_kind, of_annotation

_BOOLS: Final = frozenset({bool, np.bool_})
_INTEGERS: Final = frozenset(
    {
        int,
        np.int8,
        np.int16,
        np.int32,
        np.int64,
        np.longlong,
        np.uint8,
        np.uint16,
        np.uint32,
        np.uint64,
        np.ulonglong,
    }
)
_NUMBERS: Final = _INTEGERS | {float, np.float16, np.float32, np.float64}
_LISTS: Final = frozenset({list, tuple, np.ndarray})
_SHOWN: Final = 40
"""Characters of a wrong value that are told."""


class UnlikeError(TypeError):
    """What was returned is not what is declared; the text has both."""


@dataclass(frozen=True, slots=True)
class DeclaredReturn:
    """What a stage says that it gives under one name.

    Attributes:
        quick: types of which every value is right as it is.
        look: gives any other value as what is declared, or raises ``UnlikeError``.
    """

    quick: frozenset[type]
    look: Callable[[Any], Any]


def declared_return(annotation: Any) -> DeclaredReturn | None:
    """Of an annotation; None: anything may be returned."""
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, NewType):
        return declared_return(annotation.__supertype__)
    if isinstance(annotation, typing_extensions.TypeAliasType):
        return declared_return(annotation.__value__)
    if origin is Annotated or annotation is np.ndarray or origin is np.ndarray:
        value = of_annotation(annotation)
        if value.media_type and value.annotation is not bytes:
            return _file(value)
        return (
            _array(value)
            if value.container == "array" and not _is_union(args[0] if args else None)
            else declared_return(args[0])
        )
    if origin in (Union, types.UnionType):
        return _any_of([declared_return(arg) for arg in args], " or ".join(map(name_of, args)))
    if origin is Literal:
        return _literal(args)
    if annotation in (None, type(None)):
        return _of(frozenset({type(None)}), "None", _refuse)
    if isinstance(annotation, type) and annotation in _SCALARS:
        return _SCALARS[annotation]
    if annotation is File:
        return _file(of_annotation(annotation))
    return _of_class(annotation, origin or annotation)


def name_of(annotation: Any) -> str:
    """An annotation in a message."""
    if annotation in (None, type(None)):
        return "None"
    return (
        getattr(annotation, "__name__", None) or str(annotation)
        if not get_args(annotation)
        else str(annotation).replace("typing.", "")
    )


def describe_value(value: Any) -> str:
    """What a value is, in a message: its type, and itself where it is short and plain."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {list(value.shape)}"
    if isinstance(value, types.CoroutineType):
        return f"the coroutine of {value.__qualname__!r}, which lacks its `await`"
    kind = type(value).__name__
    text = repr(value) if isinstance(value, str | int | float | np.generic) else ""
    if isinstance(value, np.generic):
        text = repr(value.item())
    return f"{kind} {text}" if 0 < len(text) <= _SHOWN else kind


def _of(quick: Iterable[type], what: str, same: Callable[[Any], Any]) -> DeclaredReturn:
    """Args:
    same: a value of another type as the one declared, or NotImplemented.
    """

    def look(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "biuf":
            value = value[()]
        found = value if type(value) in known else same(value)
        if found is NotImplemented:
            raise UnlikeError(f"{describe_value(value)}, {what} is declared")
        return found

    known = frozenset(quick)
    return DeclaredReturn(known, look)


def _refuse(value: Any) -> Any:
    return NotImplemented


def _integer(value: Any) -> Any:
    return (
        int(value)
        if isinstance(value, bool | np.bool_)
        else value
        if isinstance(value, int)
        else NotImplemented
    )


def _number(value: Any) -> Any:
    if isinstance(value, bool | np.bool_ | np.longdouble):
        return float(value)
    return value if isinstance(value, float | int) else NotImplemented


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else NotImplemented


def _bytes(value: Any) -> Any:
    return (
        bytes(value)
        if isinstance(value, bytearray | memoryview)
        else value
        if isinstance(value, bytes)
        else NotImplemented
    )


def _list(value: Any) -> Any:
    return (
        value
        if isinstance(value, Sequence) and not isinstance(value, str | bytes)
        else NotImplemented
    )


_SCALARS: Final[dict[Any, DeclaredReturn]] = {
    bool: _of(_BOOLS, "bool", _refuse),
    int: _of(_INTEGERS, "int", _integer),
    float: _of(_NUMBERS, "float", _number),
    str: _of({str, np.str_}, "str", _text),
    bytes: _of({bytes, np.bytes_}, "bytes", _bytes),
}


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _any_of(options: Sequence[DeclaredReturn | None], what: str) -> DeclaredReturn | None:
    known = [option for option in options if option is not None]
    if len(known) < len(options):
        return None

    def look(value: Any) -> Any:
        reasons = []
        for option in known:
            try:
                return option.look(value)
            except UnlikeError as error:
                reasons.append(error)
        given = [option for option in known if option.quick != {type(None)}]
        if len(given) == 1 and value is not None:
            raise next(
                reason for option, reason in zip(known, reasons, strict=True) if option is given[0]
            )
        raise UnlikeError(f"{describe_value(value)}, {what} is declared")

    return DeclaredReturn(frozenset().union(*(option.quick for option in known)), look)


def _literal(options: tuple[Any, ...]) -> DeclaredReturn:
    known = {option: option for option in options}

    def look(value: Any) -> Any:
        try:
            return known[value]
        except (KeyError, TypeError):
            raise UnlikeError(
                f"{describe_value(value)}, one of {', '.join(map(repr, options))} is declared"
            ) from None

    return DeclaredReturn(frozenset(), look)


def _array(wanted: ValueType) -> DeclaredReturn:
    dtype = tensors.NUMPY[wanted.datatype] if wanted.datatype is not None else None
    declared = list(wanted.shape) if wanted.shape is not None else ""
    what = f"an array {wanted.datatype or ''} {declared}".replace("  ", " ").strip()

    shape = wanted.shape

    def look(value: Any) -> Any:
        if (
            type(value) is np.ndarray
            and (dtype is None or value.dtype is dtype)
            and (shape is None or value.shape == shape)
        ):
            return value
        if not isinstance(value, np.ndarray | np.generic):
            of = f", np.{_written(dtype)}" if dtype is not None else ""
            raise UnlikeError(
                f"{describe_value(value)}, {what} is declared; give np.asarray(…{of})"
            )
        if dtype is not None and value.dtype != dtype:
            if dtype.hasobject and value.dtype.kind in "OSU":
                pass
            elif value.dtype.newbyteorder("=") == dtype:
                value = np.asarray(value, dtype)
            else:
                raise UnlikeError(
                    f"{describe_value(value)}, {what} is declared; give it"
                    f" .astype(np.{_written(dtype)})"
                )
        if dtype is None and not has_kind(value.dtype, wanted.annotation):
            raise UnlikeError(f"{describe_value(value)}, {name_of(wanted.annotation)} is declared")
        if shape is not None and not shape_fits(value.shape, shape):
            raise UnlikeError(f"{describe_value(value)}, {what} is declared")
        return value

    return DeclaredReturn(frozenset(), look)


def _file(wanted: ValueType) -> DeclaredReturn:
    """Of a file by its path, or one that says its type; looked at in the stage's thread."""
    what = f"{name_of(wanted.annotation)} ({wanted.media_type})"

    def look(value: Any) -> Any:
        if not isinstance(value, wanted.annotation):
            raise UnlikeError(f"{describe_value(value)}, {what} is declared")
        if why := file_issue(value, wanted.media_type):
            discard(value)
            raise UnlikeError(why)
        return value

    return DeclaredReturn(frozenset(), look)


def _written(dtype: np.dtype[Any]) -> str:
    return "bool_" if dtype.kind == "b" else "object_" if dtype.hasobject else dtype.name


def _of_class(annotation: Any, of: Any) -> DeclaredReturn | None:
    what = name_of(annotation)
    if of in (Sequence, Iterable, Collection, MutableSequence, list):
        return _of(_LISTS, what, _list)
    if of is tuple:
        return _of(_LISTS, what, _refuse)
    if of in (dict, Mapping, MutableMapping) or typing_extensions.is_typeddict(of):
        return _of(
            {dict}, what, lambda value: value if isinstance(value, Mapping) else NotImplemented
        )
    if of in (set, frozenset, Set):
        return _of(
            {set, frozenset},
            what,
            lambda value: value if isinstance(value, Set) else NotImplemented,
        )
    if not isinstance(of, type) or of in (object, Any) or not _is_asked(of):
        return None
    if issubclass(of, np.generic) and not issubclass(of, enum.Enum):
        return _numpy(of, what)
    return _of({of}, what, lambda value: value if isinstance(value, of) else NotImplemented)


def _is_asked(of: type) -> bool:
    """Whether a class can say what is its instance: a protocol cannot."""
    try:
        isinstance(None, of)
    except TypeError:
        return False
    return True


def _numpy(of: type[np.generic], what: str) -> DeclaredReturn:
    def same(value: Any) -> Any:
        if isinstance(value, of):
            return value
        if of in ABSTRACT or not isinstance(value, bool | int | float | str | bytes | np.generic):
            return NotImplemented
        dtype = np.dtype(of)
        if np.asarray(value).dtype == dtype:
            return dtype.type(value)
        if isinstance(value, np.generic) or dtype.kind not in "biuf":
            return NotImplemented
        try:
            return tensors.cast(value, tensors.from_numpy(dtype))[()]
        except ValueError:  # 300 is no int8, and 70000.0 no float16
            return NotImplemented

    return _of({of}, what, same)


def named_in(annotation: Any) -> str:
    """What a stage that returns several values is declared to give: ``Answer has sentiment,
    score``.
    """
    return f"{annotation.__name__} has {', '.join(typing.get_type_hints(annotation))}"
