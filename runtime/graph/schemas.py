"""Translates an annotation into one that pydantic can check, so that everything in it can come in
JSON.

pydantic reads most types itself, and strictly: in JSON ``"1"`` is no ``int``, an array is a tuple
or a set, ISO 8601 text a ``datetime``. Types that it does not know are translated here: numpy's
arrays and scalars, ``bytes`` as base64 text, literals of an enum, and a ``typing.TypedDict`` on a
Python older than 3.12.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import typing
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
)
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import numpy as np
import orjson
import typing_extensions
from pydantic import (
    AfterValidator,
    BeforeValidator,
    FailFast,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import PydanticSerializationError

from runtime.errors import FunctionError, RequestError
from runtime.protocol.json_text import dumps
from runtime.protocol.json_values import RefusedValueError, ScalarReader, TensorReader, read_base64
from runtime.types.annotations import KeptAnnotation, Shape
from runtime.types.json_schemas import (
    BYTES_SCHEMA,
    JSON_INTEGERS,
    JsonSchema,
    array_schema,
    element_schema,
)
from runtime.types.value_types import (
    ValueType,
    key_annotation,
    of_annotation,
    read_hints,
    required_keys,
)

_PLAIN: Final = (
    str,
    int,
    float,
    bool,
    type(None),
    None,
    Any,
    object,
    list,
    dict,
    Mapping,
    Sequence,
    list[Any],
    dict[str, Any],
)
_NO_JSON: Final[dict[str, str]] = {
    "is-instance": "a value of {} is known by its class alone",
    "is-subclass": "a class",
    "callable": "a function",
    "generator": "an iterator",
    "complex": "a complex number",
}
"""Types of pydantic's core schemas that JSON cannot carry."""


class _FailFast(FailFast):
    """Reports only a list's first fault; a ``Union`` needs it to have a hash."""

    __hash__ = object.__hash__


class Schema(NamedTuple):
    """An annotation for pydantic.

    Attributes:
        annotation: to be checked strictly.
        is_plain: it accepts what JSON decodes to; otherwise it must be checked as JSON.
        is_translated: pydantic cannot read the original annotation.
    """

    annotation: Any
    is_plain: bool = True
    is_translated: bool = False


def translate(annotation: Any) -> Schema:
    """What pydantic is to check for an annotation.

    Raises:
        TypeError: a type that cannot come in JSON, with the reason.
    """
    return _Translator().translate(annotation)


def schema_issue(core: Any) -> str:
    """Why values of a pydantic core schema cannot come in JSON; empty when they can."""
    return next(_core_issues(core), "")


def _core_issues(core: Any) -> Iterator[str]:
    if isinstance(core, list | tuple):
        for inner in core:
            yield from _core_issues(inner)
    if not isinstance(core, dict):
        return
    if (reason := _NO_JSON.get(core.get("type", ""))) is not None:
        yield reason.format(getattr(core.get("cls"), "__name__", "it"))
        return
    for key, inner in core.items():
        if key not in (
            "serialization",
            "metadata",
            "config",
            "python_schema",
            "lax_schema",
            "default",
            "cls",
        ):
            yield from _core_issues(inner)


class _Translator:
    """Translates one annotation and those within it.

    Mutable state: ``_translated``, the translated ``TypedDict`` by the original, so that one may
    contain itself; ``_enclosing``, the dataclasses being translated.
    """

    def __init__(self) -> None:
        self._translated: dict[Any, Any] = {}
        self._enclosing: set[Any] = set()

    def translate(self, annotation: Any) -> Schema:
        """The schema of an annotation.

        Raises:
            TypeError: as ``translate``.
        """
        origin, args = get_origin(annotation), get_args(annotation)
        if isinstance(annotation, NewType):
            return self.translate(annotation.__supertype__)
        if isinstance(annotation, typing_extensions.TypeAliasType):
            return self.translate(annotation.__value__)
        if annotation is np.ndarray or origin is np.ndarray:
            return translate_array(of_annotation(annotation))
        if origin is Annotated:
            return self._translate_annotated(annotation, args[0], args[1:])
        if (
            isinstance(annotation, type)
            and issubclass(annotation, bytes)
            and not issubclass(annotation, enum.Enum)
        ):
            return (
                _translate_scalar(annotation)
                if issubclass(annotation, np.generic)
                else Schema(Annotated[bytes, *_BASE64])
            )
        if isinstance(annotation, type) and issubclass(annotation, np.generic):
            return _translate_scalar(annotation)
        if isinstance(annotation, str | TypeVar | typing.ForwardRef):
            raise TypeError(f"{annotation} is not resolved; write the type itself")
        if any(annotation is plain or annotation == plain for plain in _PLAIN):
            return Schema(annotation)
        if origin is Literal:
            return _translate_literal(annotation, args)
        if origin in (Union, types.UnionType):
            return _parametrize(Union, [self.translate(arg) for arg in args])
        return (
            self._translate_container(annotation, origin, args)
            if origin is not None
            else self._translate_class(annotation)
        )

    def _translate_annotated(self, annotation: Any, inner: Any, notes: Sequence[Any]) -> Schema:
        notes = [note for note in notes if not isinstance(note, KeptAnnotation)]
        if inner is np.ndarray or get_origin(inner) is np.ndarray:
            return _add_notes(
                translate_array(of_annotation(annotation)),
                [note for note in notes if not isinstance(note, Shape)],
                first=True,
            )
        if inner is bytes:
            return Schema(Annotated[bytes, *notes, *_BASE64])
        return _add_notes(
            self.translate(inner), [note for note in notes if not isinstance(note, Shape)]
        )

    def _translate_container(self, annotation: Any, origin: Any, args: tuple[Any, ...]) -> Schema:
        if not args and origin is not tuple:  # `List`; `tuple[()]` is one without elements
            return self.translate(origin)
        if origin is list:
            return _add_notes(_parametrize(list, [self.translate(args[0])]), [_FailFast()])
        if origin in (Sequence, Iterable, Collection, MutableSequence):
            return _parametrize(Sequence, [self.translate(args[0])])
        if origin in (dict, Mapping, MutableMapping):
            key, value = self.translate(args[0]), self.translate(args[1])
            return _parametrize(
                dict if origin is dict else Mapping,
                [key, value],
                is_plain=args[0] in (str, Any) and value.is_plain,
            )
        if origin is tuple:
            known = [Schema(arg) if arg is Ellipsis else self.translate(arg) for arg in args]
            return _add_notes(_parametrize(tuple, known, is_plain=False), [_FailFast()])
        if origin in (set, frozenset):
            return _add_notes(
                _parametrize(origin, [self.translate(args[0])], is_plain=False), [_FailFast()]
            )
        # a generic class
        if typing_extensions.is_typeddict(origin) or dataclasses.is_dataclass(origin):
            return self._keep_class(annotation, [self.translate(arg) for arg in args])
        try:
            return _parametrize(origin, [self.translate(arg) for arg in args], is_plain=False)
        except TypeError:
            return Schema(annotation, is_plain=False)  # pydantic decides

    def _translate_class(self, annotation: Any) -> Schema:
        if typing_extensions.is_typeddict(annotation):
            return self._translate_typed_dict(annotation)
        if not isinstance(annotation, type):
            return Schema(annotation, is_plain=False)
        if dataclasses.is_dataclass(annotation) and not hasattr(
            annotation, "__pydantic_validator__"
        ):
            return self._translate_dataclass(annotation)
        if issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
            return self._keep_class(
                annotation,
                [self.translate(hint) for hint in read_hints(annotation).values()],
            )
        return Schema(annotation, is_plain=False)

    def _keep_class(self, annotation: Any, inner: Sequence[Schema]) -> Schema:
        if any(schema.is_translated for schema in inner):
            raise TypeError(
                f"{annotation.__name__} has an array or another type that is not read within it;"
                " make it a TypedDict"
            )
        return Schema(annotation, is_plain=False)

    def _translate_typed_dict(self, annotation: Any) -> Schema:
        if annotation in self._translated:
            return Schema(self._translated[annotation], is_translated=True)
        translated = _empty_typed_dict(annotation)
        self._translated[annotation] = translated
        hints = read_hints(annotation)
        fields = {name: self.translate(key_annotation(hint)) for name, hint in hints.items()}
        translated.__annotations__ = {name: field.annotation for name, field in fields.items()}
        translated.__required_keys__ = required_keys(annotation)
        translated.__optional_keys__ = frozenset(fields) - translated.__required_keys__
        if config := getattr(annotation, "__pydantic_config__", None):
            translated.__pydantic_config__ = config
        is_foreign = sys.version_info < (3, 12) and type(annotation).__module__ == "typing"
        return Schema(
            translated,
            all(field.is_plain for field in fields.values()),
            is_foreign or any(field.is_translated for field in fields.values()),
        )

    def _translate_dataclass(self, annotation: Any) -> Schema:
        if annotation in self._enclosing:
            return Schema(annotation, is_plain=False)
        self._enclosing.add(annotation)
        hints = read_hints(annotation)
        known = {field.name: field for field in dataclasses.fields(annotation) if field.init}
        fields = {name: self.translate(hints[name]) for name in known}
        self._enclosing.discard(annotation)
        if not any(field.is_translated for field in fields.values()):
            return Schema(annotation, is_plain=False)
        translated = _empty_typed_dict(annotation)
        translated.__annotations__ = {name: field.annotation for name, field in fields.items()}
        translated.__required_keys__ = frozenset(
            name for name, field in known.items() if _is_required(field)
        )
        translated.__optional_keys__ = frozenset(fields) - translated.__required_keys__
        return Schema(
            Annotated[translated, WrapValidator(_make_constructor(annotation))],
            is_plain=False,
            is_translated=True,
        )


def _empty_typed_dict(like: Any) -> Any:
    """An empty one to be filled: it may contain itself."""
    make: Any = typing_extensions.TypedDict
    made = make(like.__name__, {})
    made.__module__ = like.__module__
    return made


class SchemaWriter(GenerateJsonSchema):
    """pydantic's writer of JSON Schema, for types of a user: what has no schema is anything, and
    a default that JSON does not carry is left out.
    """

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012  # as pydantic has it
        "skipped-choice",
        "non-serializable-default",
    }

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchema:
        """Say nothing of it; the validator checks it."""
        return {}

    def encode_default(self, dft: Any) -> Any:
        """A default as a caller would send it."""
        try:
            return orjson.loads(dumps(dft))
        except FunctionError as error:
            raise PydanticSerializationError(error.message) from error

    def int_schema(self, schema: Any) -> JsonSchema:
        """With the bounds of JSON's own integers, where the author gives none."""
        written = super().int_schema(schema)
        lowest, highest = JSON_INTEGERS
        if "exclusiveMinimum" not in written:
            written.setdefault("minimum", lowest)
        if "exclusiveMaximum" not in written:
            written.setdefault("maximum", highest)
        return written

    def float_schema(self, schema: Any) -> JsonSchema:
        """In an answer NaN and infinities are null."""
        written = super().float_schema(schema)
        return {**written, "type": ["number", "null"]} if self.mode == "serialization" else written

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: a title would say the field's name again."""
        return False


def translate_array(wanted: ValueType) -> Schema:
    """Return how an array is read from JSON, and described."""
    return Schema(
        Annotated[
            Any,
            BeforeValidator(TensorReader(wanted)),
            WithJsonSchema(array_schema(wanted), mode="validation"),
            WithJsonSchema(array_schema(wanted, is_answer=True), mode="serialization"),
        ],
        is_translated=True,
    )


def _parametrize(origin: Any, inner: Sequence[Schema], *, is_plain: bool | None = None) -> Schema:
    annotations = tuple(schema.annotation for schema in inner)
    known = all(schema.is_plain for schema in inner) if is_plain is None else is_plain
    return Schema(origin[annotations], known, any(schema.is_translated for schema in inner))


def _add_notes(inner: Schema, notes: Sequence[Any], *, first: bool = False) -> Schema:
    if not notes:
        return inner
    # the author's checks get the array, so the reader that makes it comes last: pydantic calls the
    # last ``before`` first
    if first:
        what, *readers = get_args(inner.annotation)
        return inner._replace(annotation=Annotated[what, *notes, *readers])
    return inner._replace(annotation=Annotated[inner.annotation, *notes])


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _make_constructor(of: type) -> Callable[[Any, Callable[[Any], Any]], Any]:
    def build(value: Any, read: Callable[[Any], Any]) -> Any:
        return value if isinstance(value, of) else of(**read(value))

    return build


def _translate_literal(annotation: Any, args: tuple[Any, ...]) -> Schema:
    members = [arg for arg in args if isinstance(arg, enum.Enum)]
    if not members:
        return Schema(
            Annotated[annotation, *_BASE64]
            if any(isinstance(arg, bytes) for arg in args)
            else annotation
        )
    kinds = {type(member) for member in members}
    if len(kinds) > 1 or len(members) < len(args):
        raise TypeError(f"{annotation} mixes enums with other values; write a Union of Literals")
    options = ", ".join(repr(member.value) for member in members)

    def choose(value: Any) -> Any:
        if value not in members:
            raise RefusedValueError(f"it is none of {options}.", RequestError)
        return value

    chosen = {"enum": [member.value for member in members]}
    return Schema(
        Annotated[kinds.pop(), AfterValidator(choose), WithJsonSchema(chosen)],
        is_plain=False,
        is_translated=True,
    )


_BASE64: Final = (BeforeValidator(read_base64), WithJsonSchema(BYTES_SCHEMA))


def _translate_scalar(annotation: Any) -> Schema:
    """The schema of a numpy scalar: a number or a text becomes one."""
    wanted = of_annotation(annotation)
    return Schema(
        Annotated[
            Any,
            BeforeValidator(ScalarReader(wanted)),
            WithJsonSchema(element_schema(wanted), mode="validation"),
            WithJsonSchema(element_schema(wanted, is_answer=True), mode="serialization"),
        ],
        is_translated=True,
    )
