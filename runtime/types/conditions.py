"""``when:`` of a stage: which rows it is for, read from the declaration and asked of a row's
values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import numpy as np

from runtime.types.value_types import ValueType

When = str | Mapping[str, Any]
"""As written: ``VALUE``, ``not VALUE``, or a value's name with the constant, or one of the
constants, that it must equal.
"""


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a row.

    Attributes:
        value: name of the value that is looked at.
        options: it must equal one of these; None: it is true or false by itself.
        negated: for ``not VALUE``.
    """

    value: str
    options: tuple[Any, ...] | None = None
    negated: bool = False

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a row with these values is one of the stage's. ``True`` does not equal 1, nor
        ``"1"``.
        """
        value = values[self.value]
        if self.options is None:
            return bool(value) is not self.negated
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim):
            value = value.item()  # argmax gives an int64, which is an int for an author's '-> int'
        return any(_is(value, option) for option in self.options)

    def misfit(self, given: ValueType) -> str:
        """Why a value of that type cannot be asked so; empty when it can."""
        if given.is_any:
            return ""
        if self.options is None:
            return (
                ""
                if given.datatype == "BOOL" and given.container == "scalar"
                else f"it is {given}, a bool is wanted"
            )
        literal = _literal(given)
        if literal is not None:
            strange = [
                option
                for option in self.options
                if not any(_is(value, option) for value in literal)
            ]
            return (
                f"it is one of {', '.join(map(repr, literal))}, never {strange[0]!r}"
                if strange
                else ""
            )
        wanted = {str: "BYTES", int: "INT64", bool: "BOOL", float: "FP64"}
        strange = [
            option
            for option in self.options
            if wanted.get(type(option)) != given.datatype
            or given.container != "scalar"
            or given.is_bytes  # which equal no text
        ]
        what = "bytes" if given.is_bytes else str(given)
        return f"it is {what}, and {strange[0]!r} is {type(strange[0]).__name__}" if strange else ""

    def __str__(self) -> str:
        if self.options is None:
            return f"{'not ' if self.negated else ''}{self.value}"
        return f"{self.value} is {' or '.join(map(repr, self.options))}"


def parse_condition(when: When) -> Condition:
    """The condition that was written; the declaration has checked its form."""
    if isinstance(when, str):
        negated, _, value = when.rpartition(" ")
        return Condition(value, negated=bool(negated))
    ((value, wanted),) = when.items()
    return Condition(value, tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,))


def is_exhaustive(conditions: Iterable[Condition], types: Mapping[str, ValueType]) -> bool:
    """Whether one of the conditions holds for every row: ``x`` and ``not x``, or every option of a
    ``Literal`` that is never None.
    """
    by_value: dict[str, list[Condition]] = {}
    for each in conditions:
        by_value.setdefault(each.value, []).append(each)
    return any(_cover(alike, types.get(value)) for value, alike in by_value.items())


def _cover(alike: Sequence[Condition], given: ValueType | None) -> bool:
    if {each.negated for each in alike if each.options is None} == {True, False}:
        return True
    literal = _literal(given) if given is not None and not given.may_be_none else None
    asked = [option for each in alike for option in each.options or ()]
    return literal is not None and all(
        any(_is(value, option) for option in asked) for value in literal
    )


def _is(value: Any, option: Any) -> bool:
    if isinstance(value, bool) is not isinstance(option, bool):
        return False
    return (
        isinstance(value, type(option)) or (isinstance(option, float) and isinstance(value, int))
    ) and bool(value == option)


def _literal(given: ValueType) -> tuple[Any, ...] | None:
    return get_args(given.annotation) if get_origin(given.annotation) is Literal else None
