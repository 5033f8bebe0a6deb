"""A graph of stages in words: what they take and give, and what came of wiring them (``runtime/wiring``)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.branch import Condition
from runtime.values import ValueType, takes_none


@dataclass(frozen=True, slots=True)
class Port:
    """Something a stage takes: a parameter, a model's input, or a function's field."""

    name: str
    type: ValueType
    annotation: Any
    default: Any = inspect.Parameter.empty
    is_state: bool = False

    @property
    def is_required(self) -> bool:
        """Whether a request must carry it when it is a field."""
        return self.default is inspect.Parameter.empty

    @property
    def takes_nothing(self) -> bool:
        """Whether a row without the value can be given something instead: the default, or None."""
        return not self.is_required or takes_none(self.annotation)

    @property
    def instead(self) -> Any:
        """What a row without the value is given."""
        return None if self.is_required else self.default


@dataclass(frozen=True, slots=True)
class Node:
    """A stage as the wiring sees it.

    Attributes:
        gives: value name to type.
        inputs: the declared mapping of a port to the name of a value.
        pad: declared padding values by port.
        outputs: the declared mapping of what it gives to the name of a value.
        each: the value that it runs over, element by element.
        when: which rows it is for.
    """

    name: str
    kind: Literal["python", "onnx", "function"]
    takes: tuple[Port, ...]
    gives: Mapping[str, ValueType]
    inputs: Mapping[str, str] = field(default_factory=dict)
    pad: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    each: str | None = None
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A wrong edge: which stage (None: the function itself), which key of its declaration, and why."""

    stage: int | None
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Graph:
    """A wired graph.

    Attributes:
        fields: the request's fields by name.
        sources: for each stage, port name to the name of the value that fills it.
        instead: for each stage, port name to what it takes for a row whose value is missing; ports whose value never is are not in it.
        answer: value name to type, of the last stage.
        faults: what is wrong; nothing else is to be relied on unless it is empty.
        kept: names of the values that the calls of a sequence leave to each other.
    """

    fields: Mapping[str, Port]
    sources: tuple[Mapping[str, str], ...]
    instead: tuple[Mapping[str, Any], ...]
    answer: Mapping[str, ValueType]
    faults: tuple[Fault, ...]
    kept: tuple[str, ...] = ()
