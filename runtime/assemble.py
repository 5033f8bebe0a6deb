"""A declared graph made concrete without running it: stages imported, model files read, edges checked.

``check`` and loading share it, so nothing that would fail to load for a reason visible here is ever started.
"""

from __future__ import annotations

import importlib
import inspect
import typing
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime import media, sequences, signature, travel, values
from runtime.branch import condition
from runtime.declaration.place import render
from runtime.declaration.references import filled, references
from runtime.errors import LoadError, StoreError
from runtime.graph import Fault, Graph, Node, Port
from runtime.interface import ports_of, type_of
from runtime.onnx.info import ModelInfo
from runtime.onnx.session import Session
from runtime.secrets import Secrets
from runtime.settings import Settings
from runtime.signature import Signature, SignatureError
from runtime.spec import FunctionSpec, StageSpec
from runtime.store.sources import resolve
from runtime.wiring import wire
from runtime.wording import did_you_mean


@dataclass(frozen=True, slots=True)
class PythonPart:
    """A Python stage found: what to call or to construct, and with what.

    Attributes:
        hide: takes the secrets among the arguments out of a text.
    """

    target: Callable[..., Any]
    signature: Signature
    arguments: dict[str, Any] = field(repr=False)
    hide: Callable[[str], str] = field(default=str, repr=False)

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
            said = f"{self.target.__module__}:{self.target.__qualname__} did not construct: {type(error).__name__}: {error}"
            shown = self.hide(said)
            raise LoadError(shown) from (error if shown == said else None)  # whoever prints a cause prints the secret
        return built


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A model file found and read; with its session when it is to run."""

    path: Path
    info: ModelInfo
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class CalledPart:
    """Another function, by its face."""

    takes: tuple[Port, ...]
    gives: dict[str, values.ValueType]


Part = PythonPart | ModelPart | CalledPart


@dataclass(frozen=True, slots=True)
class Assembly:
    """A function's parts and its wired graph; to be loaded only if ``faults`` is empty.

    Attributes:
        rows: whether a request has a rows axis; False for a bare model without a batch axis.
    """

    spec: FunctionSpec
    parts: tuple[Part | None, ...]
    graph: Graph | None
    faults: tuple[Fault, ...]
    rows: bool = True


def assemble(
    spec: FunctionSpec,
    settings: Settings,
    open_model: Callable[[Path], ModelPart],
    module: Callable[[str], ModuleType] = importlib.import_module,
) -> Assembly:
    """Finds every part of a function; what cannot be found or does not fit is in ``faults``.

    Args:
        open_model: reads a model file, or opens its session: a check starts nothing, and serving does not import what reads files.
        module: gives a stage's module by its name, or raises what its import raises.
    """
    parts: list[Part | None] = []
    faults: list[Fault] = []
    for index, stage in enumerate(spec.graph):
        if unknown := list(_unknown_secrets(index, spec, settings.secrets)):
            faults += unknown
            parts.append(None)
            continue
        try:
            parts.append(_part(stage, spec, settings, open_model, module))
        except (_WithError, LoadError, StoreError, SignatureError) as error:
            parts.append(None)
            faults.append(Fault(index, "with" if isinstance(error, _WithError) else stage.kind, str(error)))
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return Assembly(spec, tuple(parts), None, tuple(faults))
    rows = not (len(found) == 1 and isinstance(found[0], ModelPart) and not found[0].info.batchable)
    graph = wire([_node(stage, part) for stage, part in zip(spec.graph, found, strict=True)])
    faults = [*graph.faults, *_misplaced_streams(spec, found), *_unsplittable(spec, found)]
    if why := media.misfit(spec.accepts, graph.fields):
        faults.append(Fault(None, "accepts", why))
    if why := sequences.misfit(spec.sequences, graph.kept):
        faults.append(Fault(None, "sequences", why))
    return Assembly(spec, tuple(parts), graph, tuple(faults), rows)


_signatures: weakref.WeakKeyDictionary[Callable[..., Any], Signature] = weakref.WeakKeyDictionary()
"""A function that wakes again is read from memory: half a millisecond of ``forecast``'s load. Code that was replaced is not held by it."""


def _signature(target: Callable[..., Any]) -> Signature:
    try:
        found = _signatures.get(target)
    except TypeError:  # an object with slots, or without a hash
        return signature.read(target)
    if found is None:
        found = _signatures[target] = signature.read(target)
    return found


def _unsplittable(spec: FunctionSpec, parts: Sequence[Part]) -> Iterator[Fault]:
    """What keeps stages with a deployment of their own in the function's process."""
    for index, (stage, part) in enumerate(zip(spec.graph, parts, strict=True)):
        if stage.deployment is not None and isinstance(part, PythonPart):
            for why in travel.misfits(part.signature):
                told = f"stage {stage.stage!r} cannot have a deployment of its own: {why}. Otherwise delete 'deployment'."
                yield Fault(index, "deployment", told)


def _misplaced_streams(spec: FunctionSpec, parts: Sequence[Part]) -> Iterator[Fault]:
    """What is wrong with where stages yield."""
    last = len(parts) - 1
    for index, (stage, part) in enumerate(zip(spec.graph, parts, strict=True)):
        if not isinstance(part, PythonPart) or not part.signature.streams:
            continue
        if index < last:
            behind = spec.graph[index + 1].stage
            told = f"stage {stage.stage!r} yields, and {behind!r} comes behind it. Only the last stage may yield; return a list here."
            yield Fault(index, "python", told)
        for key in ("each", "when"):
            if getattr(stage, key) is not None:
                yield Fault(index, key, f"stage {stage.stage!r} yields the answer of a whole row. Delete '{key}'.")


class _WithError(ValueError):
    """What ``with:`` gives is not what the stage's ``__init__`` takes."""


def _part(
    stage: StageSpec,
    spec: FunctionSpec,
    settings: Settings,
    open_model: Callable[[Path], ModelPart],
    module: Callable[[str], ModuleType],
) -> Part:
    if stage.onnx is not None:
        return open_model(resolve(stage.onnx, stage.sha256, models=settings.models, root=settings.root, fetch=False))
    return _python(stage, spec, settings, module) if stage.function is None else _called(stage.function, spec)


def _called(name: str, spec: FunctionSpec) -> CalledPart:
    called = spec.calls.get(name)
    if called is None:
        raise LoadError(
            f"nothing is known here of the function {name!r}: `serve deploy` reads one application at a time. Use `wakeful up`, or deploy "
            "the file that `wakeful export serve` prints."
        )
    return CalledPart(ports_of(called.takes), {value: type_of(words) for value, words in called.gives.items()})


def _unknown_secrets(index: int, spec: FunctionSpec, secrets: Secrets) -> Iterator[Fault]:
    """What a stage names and nobody gives."""
    for place, name in references(spec.graph[index].with_, ("with",)):
        mark = spec.secrets.get(name, "")
        if secrets.find(name, mark) is None:
            yield Fault(index, render(place), secrets.missing(name, mark))


def _python(stage: StageSpec, spec: FunctionSpec, settings: Settings, find: Callable[[str], ModuleType]) -> PythonPart:
    module_name, _, attribute = (stage.python or "").partition(":")
    try:
        module = find(module_name)
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
        return PythonPart(target, _signature(target.__call__), _arguments(target, stage, spec, settings), settings.secrets.hide)
    if stage.with_:
        raise _WithError(f"{stage.python} is a function; 'with' gives a class the arguments of its __init__.")
    return PythonPart(target, _signature(target), {})


def _arguments(target: type, stage: StageSpec, spec: FunctionSpec, settings: Settings) -> dict[str, Any]:
    """The ``with:`` values as ``__init__`` takes them; a value annotated ``Path`` is a file, found from the root like every path."""
    secrets = settings.secrets
    takes = inspect.signature(target)
    for name in stage.with_:
        if name not in takes.parameters:
            raise _WithError(f"{target.__name__}.__init__ has no {name!r}{did_you_mean(name, takes.parameters) or '.'}")
    try:
        takes.bind(**stage.with_)
    except TypeError as error:
        raise _WithError(f"{target.__name__}.__init__ does not take these values: {error}.") from error
    hints = typing.get_type_hints(inspect.getattr_static(target, "__init__"))
    arguments: dict[str, Any] = filled(stage.with_, lambda name: secrets.find(name, spec.secrets.get(name, "")) or "")
    for name, value in stage.with_.items():
        if hints.get(name) is Path:
            arguments[name] = settings.root / str(arguments[name])
            if not arguments[name].exists():
                raise _WithError(f"{name!r}: there is no file {value}; if it is a model's, run 'wakeful models pull'.")
    return arguments


def _node(stage: StageSpec, part: Part) -> Node:
    if isinstance(part, ModelPart):
        rows = part.info.batchable
        takes = tuple(Port(spec.name, value := values.of_tensor(spec, rows=rows), value.annotation) for spec in part.info.inputs)
        gives = {spec.name: values.of_tensor(spec, rows=rows) for spec in part.info.outputs}
        node = Node(stage.stage, "onnx", takes, gives)
    elif isinstance(part, CalledPart):
        node = Node(stage.stage, "function", part.takes, part.gives)
    else:
        takes = tuple(Port(param.name, param.type, param.annotation, param.default, param.state) for param in part.signature.params)
        gives = {name or stage.stage: value for name, value in part.signature.gives.items()}
        node = Node(stage.stage, "python", takes, gives)
    when = None if stage.when is None else condition(stage.when)
    return replace(node, inputs=stage.inputs, pad=stage.pad, outputs=stage.outputs, each=stage.each, when=when)
