"""Whether a stage can be split off: what it takes and gives must be able to go to another process, and it must keep and yield nothing.

What goes is what ``runtime/wire/rows_codec`` writes. A type of which nothing is known passes here; its values are looked at when they go.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import numpy as np

from runtime.signature import Signature
from runtime.values import ValueType

_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None), Any, object, list, tuple, dict, Sequence, Mapping})

_STANDS: Final = "Give it as text, bytes, a number, an array, a list, a tuple, a TypedDict or a dict with text keys"


def misfits(signature: Signature) -> Iterator[str]:
    """Why a Python stage cannot be split off."""
    if signature.streams:
        yield "it yields, and a stream goes to its caller from the function's own process"
    for param in signature.params:
        if param.state:
            yield f"its {param.name!r} is a State, which lives where the function's sequences do"
        elif stays := staying(param.annotation):
            yield f"its {param.name!r} is {stays}, which cannot go to another process. {_STANDS}"
    for name, value in signature.gives.items():
        if stays := _staying_value(value):
            yield f"{repr(name) if name else 'what it gives'} is {stays}, which cannot go to another process. {_STANDS}"


def staying(annotation: Any) -> str:
    """The name of the type within an annotation whose values stay in their process; empty if there is none."""
    return _staying(annotation, frozenset())


def _staying_value(value: ValueType) -> str:
    return "" if value.container == "array" else staying(value.annotation)


def _staying(annotation: Any, around: frozenset[Any]) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _staying(args[0], around)
    if annotation in _PLAIN or origin is Literal or annotation is np.ndarray or origin is np.ndarray:
        return ""
    if origin in (Union, types.UnionType, list, tuple, Sequence):
        return next(filter(None, (_staying(arg, around) for arg in args if arg is not Ellipsis)), "")
    if origin in (dict, Mapping):
        key, value = args
        return f"a dict with keys of {_name(key)}" if key not in (str, Any) else _staying(value, around)
    if typing.is_typeddict(annotation):
        hints = {} if annotation in around else typing.get_type_hints(annotation, include_extras=True)
        return next(filter(None, (_staying(hint, around | {annotation}) for hint in hints.values())), "")
    if isinstance(annotation, type) and issubclass(annotation, np.generic):
        return "" if issubclass(annotation, np.bool_ | np.integer | np.floating) or annotation is np.generic else _name(annotation)
    return _name(annotation) if isinstance(origin or annotation, type) else ""


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)
