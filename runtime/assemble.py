"""A declared graph made concrete without running it: stages imported, model files read, edges checked.

``check`` and loading share it, so nothing that would fail to load for a reason visible here is ever started.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import signature, values
from runtime.errors import LoadError, StoreError
from runtime.graph import Fault, Graph, Node, Port, wire
from runtime.onnx.info import ModelInfo
from runtime.onnx.session import Session
from runtime.settings import Settings
from runtime.signature import Signature, SignatureError
from runtime.spec import FunctionSpec, StageSpec
from runtime.store.sources import resolve
from runtime.wording import did_you_mean


@dataclass(frozen=True, slots=True)
class PythonPart:
    """A Python stage found: what to call or to construct, and with what."""

    target: Callable[..., Any]
    signature: Signature
    arguments: dict[str, Any]

    def build(self) -> Callable[..., Any]:
        """The callable itself, or a new object of the class.

        Raises:
            LoadError: its ``__init__`` raises.
        """
        if not isinstance(self.target, type):
            return self.target
        try:
            built: Callable[..., Any] = self.target(**self.arguments)
        except Exception as error:  # whatever a user's __init__ raises
            raise LoadError(
                f"{self.target.__module__}:{self.target.__qualname__} did not construct: {type(error).__name__}: {error}"
            ) from error
        return built


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A model file found and read; with its session when it is to run."""

    path: Path
    info: ModelInfo
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Assembly:
    """A function's parts and its wired graph; to be loaded only if ``faults`` is empty.

    Attributes:
        rows: whether a request has a rows axis; False for a bare model without a batch axis.
    """

    spec: FunctionSpec
    parts: tuple[PythonPart | ModelPart | None, ...]
    graph: Graph | None
    faults: tuple[Fault, ...]
    rows: bool = True


def assemble(spec: FunctionSpec, settings: Settings, open_model: Callable[[Path], ModelPart]) -> Assembly:
    """Finds every part of a function; what cannot be found or does not fit is in ``faults``.

    Args:
        open_model: reads a model file, or opens its session: a check starts nothing, and serving does not import what reads files.
    """
    parts: list[PythonPart | ModelPart | None] = []
    faults: list[Fault] = []
    for index, stage in enumerate(spec.graph):
        key = "onnx" if stage.onnx is not None else "python"
        try:
            parts.append(open_model(_model_path(stage, settings)) if stage.onnx is not None else _python(stage, settings))
        except (_WithError, LoadError, StoreError, SignatureError) as error:
            parts.append(None)
            faults.append(Fault(index, "with" if isinstance(error, _WithError) else key, str(error)))
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return Assembly(spec, tuple(parts), None, tuple(faults))
    rows = not (len(found) == 1 and isinstance(found[0], ModelPart) and not found[0].info.batchable)
    graph = wire([_node(stage, part) for stage, part in zip(spec.graph, found, strict=True)])
    return Assembly(spec, tuple(parts), graph, graph.faults, rows)


_signature = functools.lru_cache(maxsize=1024)(signature.read)
"""A function that wakes again is read from memory: half a millisecond of ``forecast``'s load."""


class _WithError(ValueError):
    """What ``with:`` gives is not what the stage's ``__init__`` takes."""


def _model_path(stage: StageSpec, settings: Settings) -> Path:
    return resolve(stage.onnx or "", stage.sha256, models=settings.models, root=settings.root, fetch=False)


def _python(stage: StageSpec, settings: Settings) -> PythonPart:
    module_name, _, attribute = (stage.python or "").partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise LoadError(f"module {module_name!r} does not import: {type(error).__name__}: {error}") from error
    target = getattr(module, attribute, None)
    if target is None:
        raise LoadError(f"module {module_name!r} has no {attribute!r}{did_you_mean(attribute, dir(module)) or '.'}")
    if not callable(target):
        raise LoadError(f"{stage.python} is no function and no class with __call__.")
    if isinstance(target, type):
        if "__call__" not in dir(target) or target.__call__ is type.__call__:
            raise LoadError(f"class {stage.python} has no __call__, which does a stage's work.")
        return PythonPart(target, _signature(target.__call__), _arguments(target, stage, settings))
    if stage.with_:
        raise _WithError(f"{stage.python} is a function; 'with' gives a class the arguments of its __init__.")
    return PythonPart(target, _signature(target), {})


def _arguments(target: type, stage: StageSpec, settings: Settings) -> dict[str, Any]:
    """The ``with:`` values as ``__init__`` takes them; a value annotated ``Path`` is a file, found from the root like every path."""
    takes = inspect.signature(target)
    for name in stage.with_:
        if name not in takes.parameters:
            raise _WithError(f"{target.__name__}.__init__ has no {name!r}{did_you_mean(name, takes.parameters) or '.'}")
    try:
        takes.bind(**stage.with_)
    except TypeError as error:
        raise _WithError(f"{target.__name__}.__init__ does not take these values: {error}.") from error
    hints = typing.get_type_hints(inspect.getattr_static(target, "__init__"))
    arguments = dict(stage.with_)
    for name, value in stage.with_.items():
        if hints.get(name) is Path:
            arguments[name] = settings.root / str(value)
            if not arguments[name].exists():
                raise _WithError(f"{name!r}: there is no file {value}; if it is a model's, run 'wakeful models pull'.")
    return arguments


def _node(stage: StageSpec, part: PythonPart | ModelPart) -> Node:
    if isinstance(part, ModelPart):
        rows = part.info.batchable
        takes = tuple(Port(spec.name, value := values.of_tensor(spec, rows=rows), value.annotation) for spec in part.info.inputs)
        gives = {spec.name: values.of_tensor(spec, rows=rows) for spec in part.info.outputs}
        return Node(stage.stage, "onnx", takes, gives, stage.inputs, stage.pad)
    takes = tuple(Port(param.name, param.type, param.annotation, param.default) for param in part.signature.params)
    gives = {name or stage.stage: value for name, value in part.signature.gives.items()}
    return Node(stage.stage, "python", takes, gives, stage.inputs, stage.pad)
