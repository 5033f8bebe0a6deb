"""Annotations of a stage that say nothing where they stand, or are no type: refused, with what to
write.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import numpy as np

from runtime.types.annotations import KEPT, Header, MediaType, Rows, Shape, is_media_range
from runtime.types.files import FILE_TYPES, File
from runtime.types.returned_values import name_of
from runtime.types.value_types import ValueType, of_annotation

_NO_TYPES: Final = (
    list,
    tuple,
    dict,
    set,
    int,
    float,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.EllipsisType,
)
"""Of what people write for a type: ``[str]``, ``np.array``, ``any``."""


class SignatureError(TypeError):
    """A signature that cannot be a stage's; the message says what to write instead."""


def refuse_lost_shape(annotation: Any, whole: Any, name: str) -> None:
    """Refuse a ``Shape`` where nothing reads it: as a type by itself, next to the type within
    ``Rows`` or ``np.ndarray``, or with what is no array.
    """
    shape = annotation if isinstance(annotation, Shape) else None
    within = [whole, *get_args(whole)] if get_origin(whole) is Annotated else [whole]
    for part in within:
        if get_origin(part) in (Rows, np.ndarray):
            shape = shape or next((arg for arg in get_args(part) if isinstance(arg, Shape)), None)
    if shape is None and get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        note = next((note for note in notes if isinstance(note, Shape)), None)
        if note is not None and read_value_type(inner, name).container != "array":
            shape = note
    if shape is not None:
        array = f"Annotated[NDArray[np.float32], {shape}]"
        written = f"Rows[{array}]" if any(get_origin(part) is Rows for part in within) else array
        raise SignatureError(
            f"{name!r}: {shape} stands where it says nothing. Write {written}, with the array's own"
            " dtype."
        )


def refuse_misplaced(annotation: Any, name: str, *, is_within: bool = False) -> None:
    """Refuse what is no type, and what says nothing where it stands: ``Rows``, a ``Header`` or a
    ``State`` within another type, and a note without its parentheses.

    Args:
        annotation: of one row.
        is_within: it stands within another type.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, _NO_TYPES):
        raise SignatureError(
            f"{name!r}: its annotation has {_describe_object(annotation)} where a type stands."
            " Write one, such as `list[str]`, `NDArray[np.float32]` or a TypedDict."
        )
    if Rows in (annotation, origin):
        raise SignatureError(
            f"{name!r}: Rows stands within another type. Write `Rows[T | None]` or `Rows[list[T]]`."
            if is_within
            else f"{name!r}: Rows does not say of what. Write `Rows[T]`, such as `Rows[str]`."
        )
    if origin is dict and len(args) == 1:
        raise SignatureError(f"{name!r}: a dict has two types. Write `dict[str, T]`.")
    if origin is Annotated:
        for note in args[1:]:
            if note is Header or note is Shape or note is MediaType:
                raise SignatureError(f"{name!r}: {note.__name__} stands without its parentheses.")
            if is_within and (note is KEPT or isinstance(note, Header)):
                what = "State[T]" if note is KEPT else f"Annotated[str | None, {note}]"
                raise SignatureError(
                    f"{name!r}: {'State' if note is KEPT else note} stands within another type."
                    f" Write `{what}`."
                )
            if is_within and isinstance(note, MediaType):
                raise SignatureError(
                    f"{name!r}: {note} stands within another type, and an answer is one file."
                    f" Return `Annotated[bytes, {note}]`, or drop it."
                )
        args = args[:1]
    if origin in (Literal, Callable):
        return
    for inner in args:
        if inner is not Ellipsis:
            refuse_misplaced(inner, name, is_within=is_within or origin is not Annotated)


def _describe_object(value: Any) -> str:
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        return f"the function {value.__name__!r}"
    return f"the module {value.__name__!r}" if isinstance(value, types.ModuleType) else repr(value)


def read_value_type(annotation: Any, name: str) -> ValueType:
    """The type of a value.

    Raises:
        SignatureError: no value can have it.
    """
    try:
        return of_annotation(annotation)
    except TypeError as error:
        raise SignatureError(f"{name!r}: {error}.") from error


def media_type_of(annotation: Any) -> MediaType | None:
    """The ``MediaType`` that an annotation has; None: it has none."""
    notes = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((note for note in notes if isinstance(note, MediaType)), None)


def refuse_no_file(annotation: Any, name: str) -> None:
    """Refuse a ``MediaType`` of what is no file, and a range that the file does not narrow."""
    media = media_type_of(annotation)
    if media is None:
        return
    inner = get_args(annotation)[0]
    if inner not in FILE_TYPES:
        raise SignatureError(
            f"{name!r}: {media} is the type of a file, and this is {name_of(inner)}. Write"
            f" `Annotated[bytes, {media}]`; of `Path` and `File` it says the same."
        )
    if inner is not File and is_media_range(media.name):
        raise SignatureError(
            f"{name!r}: {media} stands for several types, and {inner.__name__} does not say which"
            f" it is. Write the one, or `Annotated[File, {media}]` and return"
            " `File(content, 'image/png')`."
        )
