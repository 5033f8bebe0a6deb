"""Checks a request's row against the fields of a function: the right names, types and constraints,
or an error that names the field.

pydantic does the checking, strictly (``"3"`` is no number, ``true`` is no integer);
``runtime.graph.schemas`` says what it is to check.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any, Final

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails

from runtime.errors import (
    FunctionError,
    LoadError,
    MissingInput,
    RequestError,
    UnknownInput,
    WakefulError,
    WrongDatatype,
)
from runtime.graph import schemas
from runtime.graph.graph import OMITTED, Port
from runtime.graph.requests.form_values import FormConverter, unknown_field
from runtime.graph.schemas import SchemaWriter
from runtime.protocol.given_values import describe_given, describe_keys, place_in
from runtime.protocol.json_text import dumps, json_kind, loads
from runtime.protocol.json_values import AS_VALUES, RefusedValueError
from runtime.system.messages import MOST_COMPARED, closest_match
from runtime.types.json_schemas import JsonSchema
from runtime.types.own_values import as_python, own_default

LOG_EVERY_S: Final = 1.0
"""Longest that validators which fail go without a record in the log."""

logger = logging.getLogger("wakeful.function")

_CONFIG = ConfigDict(
    extra="forbid",
    strict=True,
    arbitrary_types_allowed=True,
    validate_by_alias=True,
    val_json_bytes="base64",
)


class RowValidator:
    """Checks rows of one function.

    Fields of types that JSON writes otherwise than Python (a tuple, a ``datetime``, a dataclass)
    are checked as JSON, all others as decoded.

    Args:
        name: of the function.
        fields: what a row may carry, by name.

    Raises:
        LoadError: a field of a type that cannot come in a request.

    Mutable state: ``_logged_at`` and ``_unlogged``, the last record of a validator that failed and
    the failures since.
    """

    _config = _CONFIG

    def __init__(self, name: str, fields: Mapping[str, Port]) -> None:
        self._names = tuple(fields)
        self._logged_at, self._unlogged = -math.inf, 0
        plain: dict[str, Any] = {}
        as_json: dict[str, Any] = {}
        for index, (field, port) in enumerate(fields.items()):
            known = _schema_of(field, port)
            plain[f"field_{index}"] = (
                known.annotation if known.is_plain else Any,
                _default(field, port),
            )
            if not known.is_plain:
                as_json[f"field_{index}"] = (known.annotation, Field(None, alias=field))
        self._model = _make_model(f"{name}_row", plain, self._config)
        self._copied = {
            field: port.default
            for field, port in fields.items()
            if not port.is_required and own_default(port.default) is not port.default
        }
        self._json_model = _make_model(f"{name}_json", as_json, self._config) if as_json else None
        self._json_fields = {
            index: self._names[int(index.removeprefix("field_"))] for index in as_json
        }

    def validate(self, data: Any, where: str = "", *, as_values: bool = False) -> dict[str, Any]:
        """The row's values by field, defaults filled in.

        Args:
            data: decoded JSON, or Python values and arrays from a v2 request.
            where: path of the row, such as ``[3]``; empty for a single one.
            as_values: a stage of another function gave them, and they may be Python's where JSON
                has another form.

        Raises:
            RequestError: or one of its kinds, ``where`` naming the field.
            FunctionError: a validator in the function's annotations raised something else.
        """
        if not isinstance(data, dict):
            raise WrongDatatype(
                f"a row is a JSON object with the fields {', '.join(self._names)}.", where=where
            )
        if len(data) > 2 * len(self._names) + _MAX_UNKNOWN:  # pydantic would report every one
            self._refuse_unknown(data, where)
        try:
            checked = self._model.model_validate(data, context=AS_VALUES if as_values else None)
            values = dict(zip(self._names, checked.__dict__.values(), strict=True))
            if self._json_model is not None:
                values.update(self._validate_json(self._json_model, data, as_values=as_values))
            for field, default in self._copied.items():
                if values[field] is default:  # pydantic copies those alone that have no hash
                    values[field] = own_default(default)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            # what another stage gave is not for the caller
            raise self._request_error(_first_of(found), where, data, tells=not as_values) from None
        except WakefulError:
            raise
        except (Exception, SystemExit) as error:  # of a validator among a stage's annotations
            self._refuse_unknown(data, where)
            self._log_failure(error)
            raise FunctionError(
                "the function failed to check this row; its log has the reason.", where=where
            ) from error
        return values

    def _refuse_unknown(self, data: Mapping[Any, Any], where: str) -> None:
        """Raises UnknownInput for the first name that is no field's."""
        for name in data:
            if name not in self._names:
                path = place_in(where, (str(name),))
                raise unknown_field(str(name), self._names, where=path) from None

    def _log_failure(self, error: BaseException) -> None:
        """One traceback a second, and the number of those in between: each row of a body may fail
        here.
        """
        now = time.monotonic()
        if now < self._logged_at + LOG_EVERY_S:
            self._unlogged += 1
            return
        logger.error(
            "a validator of the fields %s failed (%d more since the last such record)",
            ", ".join(self._names),
            self._unlogged,
            exc_info=error,
        )
        self._logged_at, self._unlogged = now, 0

    def _validate_json(
        self, model: type[BaseModel], data: dict[str, Any], *, as_values: bool
    ) -> dict[str, Any]:
        """The fields that are checked as JSON, those that the row has."""
        given = {name: data[name] for name in self._json_fields.values() if name in data}
        checked = (
            _validate_values(model, given)
            if as_values
            else model.model_validate_json(dumps(given), strict=True)  # a form gives bytes
        )
        return {
            name: checked.__dict__[index]
            for index, name in self._json_fields.items()
            if name in given
        }

    def validate_rows(self, data: Sequence[Any]) -> list[dict[str, Any] | WakefulError]:
        """Each row's values, or its error with a path such as ``[3].text``."""
        return [self._row_or_error(row, f"[{index}]") for index, row in enumerate(data)]

    def validate_values(self, data: Sequence[Any]) -> list[dict[str, Any] | WakefulError]:
        """As ``validate_rows``, for rows that a stage of another function gave: numpy's scalars are
        checked as Python's, and stay what they are.
        """
        return [
            (
                self._keep_scalars(row, index)
                if isinstance(row, dict)
                else self._row_or_error(row, f"[{index}]")
            )
            for index, row in enumerate(data)
        ]

    def _keep_scalars(self, data: dict[str, Any], index: int) -> dict[str, Any] | WakefulError:
        scalars = {name: value for name, value in data.items() if isinstance(value, np.generic)}
        plain = (
            {**data, **{name: value.item() for name, value in scalars.items()}} if scalars else data
        )
        checked = self._row_or_error(plain, f"[{index}]", as_values=True)
        if isinstance(checked, WakefulError):
            return self._keep_lists(data, index, checked)
        return checked | scalars if scalars else checked

    def _keep_lists(
        self, data: dict[str, Any], index: int, refused: WakefulError
    ) -> dict[str, Any] | WakefulError:
        """Check a refused row again with Python's scalars for numpy's in its lists, which a stage
        gave for each of some elements.
        """
        plain = {name: as_python(value) for name, value in data.items()}
        changed = [name for name, value in data.items() if plain[name] is not value]
        checked = self._row_or_error(plain, f"[{index}]", as_values=True) if changed else refused
        if isinstance(checked, WakefulError):
            return checked
        return checked | {
            name: data[name]
            for name in changed
            if type(checked[name]) is type(plain[name]) and name not in self._json_fields.values()
        }

    def _row_or_error(
        self, data: Any, where: str, *, as_values: bool = False
    ) -> dict[str, Any] | WakefulError:
        try:
            return self.validate(data, where, as_values=as_values)
        except WakefulError as error:
            return error

    @cached_property
    def form_converter(self) -> FormConverter:
        """Makes rows of forms."""
        return FormConverter(self._json_schema)

    @cached_property
    def _json_schema(self) -> JsonSchema:
        return self.json_schema()

    def json_schema(self) -> JsonSchema:
        """JSON Schema of a row, with its ``$defs``."""
        schema = self._model.model_json_schema(schema_generator=SchemaWriter)
        if self._json_model is not None:
            more = self._json_model.model_json_schema(schema_generator=SchemaWriter)
            for name, known in more["properties"].items():  # whose default stands for no value
                known.pop("default", None)
                schema["properties"][name] = known | schema["properties"][name]
            schema["$defs"] = schema.get("$defs", {}) | more.get("$defs", {})
        return schema

    def _hint_for_missing(self, field: str, data: dict[str, Any]) -> str:
        """The unknown field that was probably given for a missing one; or the route meant."""
        if "inputs" in data and "inputs" not in self._names:
            return "; a request with 'inputs' goes to the route /infer"
        may_mean = (
            name
            for name in data
            if isinstance(name, str) and len(name) <= 64 and name not in self._names
        )
        unknown = list(islice(may_mean, MOST_COMPARED))  # the client has any number of them
        given = closest_match(field, unknown) or next(iter(unknown), None)
        return f"; {given!r} is given, which is none" if given is not None else ""

    def _request_error(
        self, error: ErrorDetails, where: str, data: dict[str, Any], *, tells: bool
    ) -> RequestError:
        kind, location = error["type"], error["loc"]
        path, is_nested = place_in(where, location), len(location) > 1
        if kind == "missing":
            known = (
                "."
                if is_nested
                else (
                    f"{self._hint_for_missing(str(location[0]), data)}; the fields are"
                    f" {', '.join(self._names)}."
                )
            )
            what = "element" if isinstance(location[-1], int) else "key" if is_nested else "field"
            return MissingInput(f"{what} {location[-1]!r} is missing{known}", where=path)
        if kind == "extra_forbidden":
            if not is_nested:
                return unknown_field(str(location[0]), self._names, where=path)
            keys = describe_keys(self._json_schema, location)
            return UnknownInput(f"there is no such key{keys}", where=path)
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, RefusedValueError):
            path += cause.place
            return cause.kind(f"{path} {cause}" if cause.place else str(cause), where=path)
        given = describe_given(data, location) if tells else ""
        message = f"{error['msg'].rstrip('.')}{given}."
        return (WrongDatatype if kind.endswith(("_type", "_parsing")) else RequestError)(
            message, where=path
        )


class CalledValues(RowValidator):
    """Reads what another function gave as what a stage's parameters are annotated: of an ``Enum``,
    a dataclass or a set only its JSON has come. Keys that a TypedDict does not name are dropped.

    Args:
        stage: its name.
        params: those of its parameters that take such values.
    """

    _config = _CONFIG | ConfigDict(extra="ignore")

    def __init__(self, stage: str, params: Iterable[Port]) -> None:
        ports = {port.name: replace(port, default=None) for port in params}
        super().__init__(stage, ports)
        self.names = frozenset(ports)
        self._stage = stage

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values by parameter, of those that are given.

        Raises:
            FunctionError: one that is not of its annotation.
        """
        (read,) = self.validate_values([dict(given)])
        if isinstance(read, WakefulError):
            with contextlib.suppress(WakefulError):  # a tuple for a list, which JSON has as one
                return self._given(self.validate(loads(dumps(given))), given)
            place = read.where.removeprefix("[0].")
            raise FunctionError(
                f"stage {self._stage!r}: {place}, which a function gave, is not what is annotated:"
                f" {read.message.replace(read.where, place)}"
            )
        return self._given(read, given)

    @staticmethod
    def _given(read: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: read[name] for name in given}


def _first_of(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """The error of a row that is told: a field that is missing, one that there is not, then those
    of values in their order.
    """

    def rank(error: ErrorDetails) -> int:
        kinds = ("missing", "extra_forbidden")
        is_of_row = len(error["loc"]) == 1 and error["type"] in kinds
        return kinds.index(error["type"]) if is_of_row else len(kinds)

    return min(errors, key=rank)


_MAX_UNKNOWN = 16
"""Unknown fields of a row that pydantic may collect; with more, the first one is refused
without it.
"""


def _schema_of(field: str, port: Port) -> schemas.Schema:
    try:
        return (
            schemas.translate_array(port.type)
            if port.annotation is np.ndarray
            else schemas.translate(port.annotation)
        )
    except TypeError as error:
        raise LoadError(f"{field!r} cannot come in a request: {error}.") from error


def _make_model(name: str, definitions: dict[str, Any], config: ConfigDict) -> type[BaseModel]:
    try:
        model: type[BaseModel] = create_model(name, __config__=config, **definitions)
    except Exception as error:  # whatever a user's annotations make pydantic raise
        raise LoadError(
            f"the fields of {name.rpartition('_')[0]!r} have no schema: {error}"
        ) from error
    if reason := schemas.schema_issue(model.__pydantic_core_schema__):
        names = (
            field.alias
            for index, field in model.model_fields.items()
            if schemas.schema_issue(_core_of(model, index))
        )
        raise LoadError(
            f"{next(names, 'a field')!r} cannot come in a request: {reason}, and JSON has no form"
            " for it."
        )
    return model


def unanswerable_reason(annotation: Any) -> str:
    """Why values of an annotation cannot be in an answer; empty when they can, or nothing is
    known.
    """
    known = _translate_answer(annotation)
    if known is None or known.is_plain:
        return ""
    try:
        model = create_model("answer", __config__=_CONFIG, value=(known.annotation, ...))
    except Exception:  # whatever a user's annotations make pydantic raise; what is returned shows
        return ""
    return schemas.schema_issue(model.__pydantic_core_schema__)


def _translate_answer(annotation: Any) -> schemas.Schema | None:
    """The schema of a value of an answer; None for a type that requests cannot carry, such as an
    array within a ``NamedTuple``. Answers can.
    """
    try:
        return schemas.translate(annotation)
    except TypeError:
        return None


def answer_mismatch(annotations: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Why an answer, read back from its JSON, is not of these types; empty when it is, as far as
    JSON tells.

    Types that JSON writes otherwise than Python are not checked. ``null`` may be NaN, ``true`` an
    ``int``, and an additional key is accepted.
    """
    known = {name: _translate_answer(annotation) for name, annotation in annotations.items()}
    fields: dict[str, Any] = {
        f"field_{index}": (kind.annotation, Field(alias=name))
        for index, (name, kind) in enumerate(known.items())
        if kind is not None and kind.is_plain
    }
    try:
        create_model("answer", __config__=_CONFIG | {"extra": "ignore"}, **fields).model_validate(
            answer
        )
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            value = detail["input"]
            if (
                value is not None
                and not isinstance(value, bool)
                and detail["type"] != "extra_forbidden"
            ):
                return (
                    f"{place_in('', detail['loc'])!r} is {json_kind(value)};"
                    f" {detail['msg'].replace('Input', 'it')}"
                )
    return ""


def _core_of(model: type[BaseModel], index: str) -> Any:
    core: Any = model.__pydantic_core_schema__
    while "fields" not in core:
        core = core["schema"]
    return core["fields"][index]


def _validate_values(model: type[BaseModel], given: dict[str, Any]) -> BaseModel:
    """Validate Python's own values as they are; where their types are wrong, as JSON writes
    them.
    """
    try:
        return model.model_validate(given, strict=True, context=AS_VALUES)
    except ValidationError:
        try:
            text = dumps(given)
        except FunctionError:
            text = b""
        if not text:
            raise
        return model.model_validate_json(text, strict=True)


def _default(name: str, port: Port) -> Any:
    if port.default is OMITTED:
        return Field(default_factory=lambda: OMITTED, alias=name)  # which no schema shows
    return Field(... if port.is_required else port.default, alias=name)
