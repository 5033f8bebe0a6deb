"""The type of one named value that flows between stages, and whether one fits where another is
wanted.

A value is what one row carries under one name. Its container says what Python object it is (a
scalar, a list, an array, or any other object); datatype and shape say what tensor it makes on the
wire and in a model.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from numpy.typing import NDArray
from typing_extensions import ReadOnly, TypeAliasType, is_typeddict

from runtime.types import tensors
from runtime.types.annotations import MediaType, Shape
from runtime.types.files import File
from runtime.types.tensors import TensorSpec

Container = Literal["scalar", "list", "array", "object"]

ABSTRACT = frozenset(
    {
        np.generic,
        np.number,
        np.integer,
        np.signedinteger,
        np.unsignedinteger,
        np.inexact,
        np.floating,
        np.flexible,
        np.character,
    }
)
"""Of numpy's scalars, those of no certain datatype."""

_UNIONS = (Union, types.UnionType)

ANY_FILE = "*/*"
"""Range of the media types of a ``File`` that is not annotated with one."""

_SCALARS: dict[Any, str] = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES", bytes: "BYTES"}


@dataclass(frozen=True, slots=True)
class ValueType:
    """One row's value.

    Attributes:
        annotation: the Python annotation it came from, ``Any`` when unknown.
        container: what object it is in Python.
        datatype: datatype of its elements; None for an array of unknown element type and for
            objects (JSON on the wire).
        shape: dimensions without the rows axis, -1 free; None when the rank is unknown.
        may_lack: a row may be without it: the key of a TypedDict that is ``NotRequired``.
        may_be_none: what gives it may give None in its place: ``list[str] | None``.
        media_type: of a file (``runtime.types.files``), or a range of types; empty: it is none.
    """

    annotation: Any
    container: Container
    datatype: str | None = None
    shape: tuple[int, ...] | None = None
    may_lack: bool = field(default=False, compare=False)
    may_be_none: bool = field(default=False, compare=False)
    media_type: str = field(default="", compare=False)

    @property
    def is_bytes(self) -> bool:
        """Whether its elements are ``bytes``, and not text."""
        element = _element(self.annotation)
        return isinstance(element, type) and issubclass(element, bytes)

    @property
    def is_any(self) -> bool:
        """Whether nothing is known of it, or only that it is a mapping, so that everything fits."""
        return self.annotation in (Any, ANY_MAPPING.annotation)

    def tensor(self, name: str, *, rows: bool = True) -> TensorSpec:
        """Its tensor on the wire: objects travel as JSON text in BYTES, an array of unknown rank as
        one free dimension.
        """
        shape = (
            self.shape if self.shape is not None else ((-1,) if self.container == "array" else ())
        )
        is_array = self.container == "array"
        return TensorSpec(
            name,
            self.datatype or "BYTES",
            (-1, *shape) if rows else shape,
            any_datatype=is_array and self.datatype is None,
            any_rank=is_array and self.shape is None,
        )

    def __str__(self) -> str:
        if self.container == "object":
            return (
                str(self.annotation)
                if get_origin(self.annotation)
                else getattr(self.annotation, "__name__", str(self.annotation))
            )
        dims = "[?]" if self.shape is None else str(list(self.shape))
        return f"{self.container} {self.datatype or 'of any datatype'} {dims}"


ANY = ValueType(Any, "object")
ANY_MAPPING = ValueType(Annotated[Any, "a mapping"], "object")
"""Another function's: nothing is known of it but that it is a JSON object, and so an answer by
itself.
"""


def of_tensor(spec: TensorSpec, *, rows: bool) -> ValueType:
    """The row value behind a model's input or output; with ``rows`` its first dimension is the rows
    axis.
    """
    return ValueType(np.ndarray, "array", spec.datatype, spec.shape[1:] if rows else spec.shape)


_ALIASES: Any = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))
"""Of a ``type`` statement (PEP 695, Python 3.12), as which newer versions of numpy define
``NDArray``, and of its form for older Pythons.
"""


def read_hints(target: Any) -> dict[str, Any]:
    """``typing.get_type_hints`` with ``Annotated``, and with what aliases stand for.

    Raises:
        NameError: as of that.
    """
    hints = get_type_hints(target, include_extras=True)
    return {name: expand_alias(hint) for name, hint in hints.items()}


def expand_alias(annotation: Any) -> Any:
    """Return an annotation with what its aliases stand for, however deep they are in it."""
    if isinstance(annotation, _ALIASES):
        return expand_alias(annotation.__value__)
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(origin, _ALIASES):
        return expand_alias(origin.__value__[args])
    if origin is Annotated:
        return Annotated[expand_alias(args[0]), *args[1:]]
    if origin is None or origin is Literal:
        return annotation
    expanded = tuple(map(expand_alias, args))
    return annotation if expanded == args else _with_args(origin, expanded)


def _bare_form(annotation: Any) -> Any:
    """An annotation without the notes of ``Annotated``, and ``Dict[str, int]`` as
    ``dict[str, int]``.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bare_form(args[0])
    if origin is None or origin is Literal:
        return annotation
    return _with_args(origin, tuple(map(_bare_form, args))) if args else origin


def _with_args(origin: Any, args: tuple[Any, ...]) -> Any:
    if origin in _UNIONS:
        return Union[args]  # noqa: UP007 - of a tuple
    return origin[args]


def of_annotation(annotation: Any) -> ValueType:
    """The value type of a Python annotation; unknown kinds become objects.

    Raises:
        TypeError: an array whose dtype is not in the protocol.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, NewType):
        return of_annotation(annotation.__supertype__)
    if origin is Annotated:
        value = of_annotation(args[0])
        for note in args[1:]:
            if isinstance(note, Shape):
                value = replace(value, annotation=args[0], shape=note.dims)
            elif isinstance(note, MediaType):
                value = replace(value, media_type=note.name)
        return value
    if origin in _UNIONS:
        known = [arg for arg in args if arg is not type(None)]
        if len(known) == 1:
            return replace(of_annotation(known[0]), may_be_none=len(args) > 1)
        return ValueType(annotation, "object", may_be_none=len(known) < len(args))
    if (
        isinstance(annotation, type)
        and issubclass(annotation, np.generic)
        and annotation not in ABSTRACT
    ):
        return ValueType(annotation, "scalar", _datatype(annotation), ())
    if isinstance(annotation, type) and annotation in _SCALARS:
        return ValueType(annotation, "scalar", _SCALARS[annotation], ())
    if annotation is np.ndarray or origin is np.ndarray:
        return _of_array(annotation)
    if annotation is File:
        return ValueType(File, "object", media_type=ANY_FILE)
    if origin is Literal and len({type(arg) for arg in args}) == 1 and type(args[0]) in _SCALARS:
        return ValueType(annotation, "scalar", _SCALARS[type(args[0])], ())
    if origin in (list, Sequence) and args:
        item = of_annotation(args[0])
        if item.container in ("scalar", "list") and item.shape is not None:
            return ValueType(annotation, "list", item.datatype, (-1, *item.shape))
    return ValueType(annotation, "object")


def array_scalar(annotation: Any) -> Any:
    """The scalar type of ``NDArray[...]``; ``Any`` where the annotation does not say."""
    args = get_args(annotation)
    return get_args(args[1])[0] if len(args) == 2 and get_args(args[1]) else Any


def has_kind(dtype: np.dtype[Any], annotation: Any) -> bool:
    """Whether an array of a dtype is of the kind that ``NDArray[np.floating]`` names; of a scalar
    type that is none, such as ``Any``, every array is.
    """
    scalar = array_scalar(annotation)
    scalar = get_origin(scalar) or scalar  # of `np.floating[Any]`
    if scalar not in ABSTRACT:
        return True
    return issubclass(np.str_ if dtype.kind in "OSU" else dtype.type, scalar)


def _of_array(annotation: Any) -> ValueType:
    scalar = array_scalar(annotation)
    if not isinstance(scalar, type) or not issubclass(scalar, np.generic) or scalar in ABSTRACT:
        return ValueType(annotation, "array")
    return ValueType(annotation, "array", _datatype(scalar))


def _datatype(scalar: type[np.generic]) -> str:
    try:
        return tensors.from_numpy(np.dtype(scalar))
    except KeyError:
        raise TypeError(
            f"{scalar.__name__} is not a datatype of the Open Inference Protocol"
        ) from None


def _element(annotation: Any) -> Any:
    """The type of what an annotation has innermost: of a list's elements, of an array's, of a
    literal.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, NewType):
        return _element(annotation.__supertype__)
    if origin is Literal:
        return type(args[0])
    if origin is np.ndarray:
        return _element(array_scalar(annotation))
    if origin in _UNIONS:
        return next((_element(arg) for arg in args if arg is not type(None)), Any)
    return _element(args[0]) if origin in (Annotated, list, Sequence) else annotation


_KEY_MARKS = {typing.Required: True, typing.NotRequired: False, ReadOnly: None}
"""What may stand around a TypedDict key's type, and whether the key must then be there."""


def key_annotation(hint: Any) -> Any:
    """A TypedDict key's annotation without ``Required``, ``NotRequired`` and ``ReadOnly``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in _KEY_MARKS:
        return key_annotation(args[0])
    return Annotated[key_annotation(args[0]), *args[1:]] if origin is Annotated else hint


def required_keys(annotation: Any) -> frozenset[str]:
    """The keys that a TypedDict must have. What a class says of itself is wrong where its
    annotations are text.
    """
    return frozenset(
        name
        for name, hint in read_hints(annotation).items()
        if _is_required(hint, otherwise=name in annotation.__required_keys__)
    )


def _is_required(hint: Any, *, otherwise: bool) -> bool:
    origin = get_origin(hint)
    if (said := _KEY_MARKS.get(origin)) is not None:
        return said
    inside = origin in _KEY_MARKS or origin is Annotated
    return _is_required(get_args(hint)[0], otherwise=otherwise) if inside else otherwise


def element_of(value: ValueType) -> ValueType | None:
    """What each element of a value is: a list's, or an array's along its first axis; anything where
    a list does not say it, and None for what has no elements.

    Raises:
        TypeError: elements that are arrays whose dtype is not in the protocol.
    """
    if value.is_any:
        return ANY
    if value.container == "array":
        if value.shape is None:
            return replace(value, annotation=np.ndarray, may_be_none=False)
        return (
            replace(value, annotation=np.ndarray, shape=value.shape[1:], may_be_none=False)
            if value.shape
            else None
        )
    if (get_origin(value.annotation) or value.annotation) in (list, Sequence):
        args = get_args(value.annotation)
        return of_annotation(args[0]) if args else ANY
    return None


def list_of(value: ValueType) -> ValueType:
    """The list of such values, one an element."""
    if value.is_any:
        return ANY
    item: Any = array_annotation(value) if value.container == "array" else value.annotation
    return of_annotation(list[item])


def is_bare_array(annotation: Any) -> bool:
    """Whether an annotation is an array's, or None beside it, and has no note but a ``Shape``: no
    validator of the author's.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return all(isinstance(note, Shape) for note in args[1:]) and is_bare_array(args[0])
    if origin in _UNIONS:
        kinds = [arg for arg in args if arg is not type(None)]
        return len(kinds) == 1 and is_bare_array(kinds[0])
    return np.ndarray in (annotation, origin)


def array_annotation(value: ValueType) -> Any:
    """The annotation that says of an array what is known of it."""
    if value.datatype is None:
        return value.annotation
    array: Any = NDArray[tensors.NUMPY[value.datatype].type]  # type: ignore[misc]  # as above
    return array if value.shape is None else Annotated[array, Shape(*value.shape)]


def is_mapping(annotation: Any) -> bool:
    """Whether a value of this annotation is a JSON object by itself, such as ``dict[str, Any]``."""
    if annotation == ANY_MAPPING.annotation or is_typeddict(annotation):
        return True
    return (get_origin(annotation) or annotation) in (dict, Mapping)


def takes_none(annotation: Any) -> bool:
    """Whether None is among what an annotation admits."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return takes_none(args[0])
    return annotation in (Any, None, type(None)) or (
        origin in _UNIONS and any(map(takes_none, args))
    )


def elements_take_none(annotation: Any) -> bool:
    """Whether a list of that annotation may have None among its elements."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return elements_take_none(args[0])
    if origin in _UNIONS:
        return any(map(elements_take_none, args))
    return annotation is Any or (origin in (list, Sequence) and takes_none(args[0]))


def incompatibility(given: ValueType, wanted: ValueType) -> str:
    """Why a value of one type cannot be used where another is wanted; empty when it can.

    Between Python stages the object itself is passed on, so containers must agree.
    """
    if given.is_any or wanted.is_any or given == wanted:
        return ""
    unlike = f"it is {given}, {wanted} is wanted"
    if wanted.container == "object":
        return "" if _is_kind(given.annotation, wanted.annotation) else unlike
    if given.container != wanted.container:
        return unlike
    widens = given.container == "scalar" and (given.datatype, wanted.datatype) == ("INT64", "FP64")
    if (
        None not in (given.datatype, wanted.datatype)
        and given.datatype != wanted.datatype
        and not widens
    ):
        return unlike
    if (
        given.datatype == "BYTES"
        and given.container != "array"
        and given.is_bytes is not wanted.is_bytes
    ):
        kinds = {False: "str", True: "bytes"}
        what = "it is" if given.container == "scalar" else "its elements are"
        return f"{what} {kinds[given.is_bytes]}, {kinds[wanted.is_bytes]} is wanted"
    options = _options(wanted.annotation)
    if options and (given_options := _options(given.annotation)) and not given_options & options:
        return (
            f"it is one of {', '.join(sorted(map(repr, given_options)))}, one of"
            f" {', '.join(sorted(map(repr, options)))} is wanted"
        )
    return _shape_incompatibility(given, wanted)


def _options(annotation: Any) -> frozenset[Any]:
    """Of a ``Literal``, or of a list of them."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return frozenset(args)
    return _options(args[0]) if origin in (Annotated, list, Sequence) else frozenset()


def _is_kind(given: Any, wanted: Any) -> bool:
    """Whether values of one annotation are of another that is an object's: each option of a union
    is, elements are, a class is. A TypedDict, which cannot be asked, has at least the keys that the
    other has, and always those that the other always has.
    """
    given, wanted = _bare_form(given), _bare_form(wanted)
    if given == wanted:
        return True
    if get_origin(given) in _UNIONS:
        return all(_is_kind(option, wanted) for option in get_args(given))
    if get_origin(wanted) in _UNIONS:
        return any(
            not incompatibility(of_annotation(given), of_annotation(option))
            for option in get_args(wanted)
        )
    of = get_origin(given) or given
    if get_origin(wanted) is Mapping and of in (dict, Mapping) and get_args(given):
        return all(
            not incompatibility(of_annotation(one), of_annotation(other))
            for one, other in zip(get_args(given), get_args(wanted), strict=True)
        )
    if get_args(wanted):
        if of is np.ndarray:
            return False
        one, other = element_of(of_annotation(given)), element_of(of_annotation(wanted))
        return one is not None and other is not None and not incompatibility(one, other)
    if not isinstance(of, type) or not isinstance(wanted, type):
        return False
    if is_typeddict(wanted):
        has = get_type_hints(given) if is_typeddict(given) else {}
        keys = get_type_hints(wanted).items()
        return all(has.get(name) == kind for name, kind in keys) and (
            not has or required_keys(wanted) <= required_keys(given)
        )
    try:
        return issubclass(of, wanted)
    except TypeError:  # a protocol says what its values can do, not what they are
        return True


def model_incompatibility(given: ValueType, wanted: ValueType) -> str:
    """Why a value cannot feed a model's input; empty when it can.

    Python numbers have no width, so scalars and lists are converted to the model's datatype of the
    same kind; arrays must have it.
    """
    if given.is_any:
        return ""
    if given.container == "object":
        return f"it is {given}, a tensor {wanted.datatype} is wanted"
    same_kind = given.container != "array" and _kind(given.datatype) == _kind(wanted.datatype)
    if given.datatype is not None and given.datatype != wanted.datatype and not same_kind:
        return f"it is {given}, {wanted} is wanted"
    return _shape_incompatibility(given, wanted)


def _kind(datatype: str | None) -> str:
    if datatype in tensors.FLOATS:
        return "float"
    return "integer" if datatype in tensors.INTEGERS else str(datatype)


def _shape_incompatibility(given: ValueType, wanted: ValueType) -> str:
    if given.shape is None or wanted.shape is None:
        return ""
    fits = len(given.shape) == len(wanted.shape) and all(
        -1 in pair or pair[0] == pair[1] for pair in zip(given.shape, wanted.shape, strict=True)
    )
    return "" if fits else f"its shape is {list(given.shape)}, {list(wanted.shape)} is wanted"
