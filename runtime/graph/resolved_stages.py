"""A stage's parts found without running it: the Python object with its arguments, the model file,
or the interface of the function that it calls.
"""

from __future__ import annotations

import importlib
import inspect
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from runtime.artifacts.sources import resolve_model
from runtime.artifacts.tracebacks import add_note, error_message, import_failure_message
from runtime.declaration.function_spec import CalleeSpec, DeclaredSpec, FunctionSpec, StageSpec
from runtime.errors import LoadError
from runtime.graph.graph import Node, Port
from runtime.graph.interfaces import ports_from_json, type_from_json
from runtime.graph.python_stages.annotation_refusals import SignatureError
from runtime.graph.python_stages.init_arguments import (
    ArgumentError,
    init_arguments,
    init_handles,
)
from runtime.graph.python_stages.signature import HandleParameter, Signature, read_signature
from runtime.onnx.model_info import ModelInfo
from runtime.onnx.session import Session
from runtime.settings import Settings
from runtime.system.extras import stage_fix
from runtime.system.messages import did_you_mean
from runtime.types.conditions import parse_condition
from runtime.types.value_types import ValueType, of_tensor


class StageImportError(LoadError):
    """A stage's module does not import.

    Attributes:
        module: its name.
    """

    def __init__(self, message: str, module: str) -> None:
        super().__init__(message)
        self.module = module


@dataclass(frozen=True, slots=True)
class ResolvedPython:
    """A Python stage: what to call or to construct, and with what.

    Attributes:
        arguments: of ``__init__``; empty for a function.
        hide: takes the secrets among the arguments out of a text.
        init_handles: the functions that ``__init__`` is given.
    """

    target: Callable[..., Any]
    signature: Signature
    arguments: dict[str, Any] = field(repr=False)
    hide: Callable[[str], str] = field(default=str, repr=False)
    init_handles: tuple[HandleParameter, ...] = ()

    @property
    def blocks(self) -> bool:
        """Whether a thread that runs it may wait for a function that it was given."""
        can_block = not (self.signature.takes_rows or self.signature.is_async)
        return can_block and bool(self.signature.handles or self.init_handles)

    @property
    def bodies_with_handles(self) -> list[tuple[Callable[..., Any], HandleParameter]]:
        """The functions that it is given, each with the Python function that has its parameter."""
        target: Any = self.target
        body = target if inspect.isroutine(target) else target.__call__
        found = [(body, handle) for handle in self.signature.handles]
        return [*found, *((target.__init__, handle) for handle in self.init_handles)]

    def build(self, handle_of: Callable[[str], Any] | None = None) -> Callable[..., Any]:
        """The callable itself, or a new object of the class.

        Args:
            handle_of: makes what ``__init__`` is given of a function, by its name.

        Raises:
            LoadError: its ``__init__`` raises.
        """
        if not isinstance(self.target, type):
            return self.target
        given = {}
        if self.init_handles:
            assert handle_of is not None
            given = {handle.name: handle_of(handle.function) for handle in self.init_handles}
        try:
            built: Callable[..., Any] = self.target(**self.arguments, **given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a user's __init__ raises, sys.exit included
            name = f"{self.target.__module__}:{self.target.__qualname__}"
            fix = stage_fix(error)
            message = f"{name} did not construct: {error_message(error)}{'.' if fix else ''}{fix}"
            failure = LoadError(self.hide(message))
            add_note(failure, error, self.hide)
            raise failure from None  # a traceback that prints the cause prints the secrets in it
        return built


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model file, read; with its session when it is to run."""

    path: Path
    info: ModelInfo
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class ResolvedCallee:
    """Another function, by its interface.

    Attributes:
        is_unnamed: its answer is one value without a key of its own.
        is_split_python: it is a Python stage of the calling function, split off.
    """

    takes: tuple[Port, ...]
    gives: dict[str, ValueType]
    is_unnamed: bool = False
    is_split_python: bool = False


ResolvedStage = ResolvedPython | ResolvedModel | ResolvedCallee

ModelOpener = Callable[[Path], ResolvedModel]
"""Reads a model file, or opens its session."""


BLOCKED_THREADS: Final = 16
"""Of a plain stage that calls functions: so many of its rows wait for them at once."""


def threads_of(stage: StageSpec, resolved: ResolvedStage | None) -> int:
    """The threads that run a stage and nothing else; 0: the function's workers do. One that calls
    functions has some in any case: a worker that waits could be the one that is waited for.
    """
    blocks = isinstance(resolved, ResolvedPython) and resolved.blocks
    return stage.threads or (BLOCKED_THREADS if blocks else 0)


def resolve_stage(
    stage: StageSpec, spec: FunctionSpec, settings: Settings, open_model: ModelOpener
) -> ResolvedStage:
    """Find what a stage consists of.

    Raises:
        ArgumentError: its ``with:`` does not fit.
        LoadError: it does not import, is nothing that can be called, or is no model.
        StoreError: its model file is not there.
        SignatureError: its signature is not a stage's.
    """
    if stage.onnx is not None:
        path = resolve_model(stage, settings)
        model = open_model(path)
        if not stage.rows:
            return replace(model, info=replace(model.info, batchable=False))
        if node := model.info.squeeze:
            raise LoadError(
                f"{path.name}: its node {node!r} is a squeeze without an axis, which takes the rows"
                " axis from the answer to one row. Export it with the axis, as `squeeze(-1)`."
            )
        return model
    if stage.function is not None:
        return _resolve_callee(stage.function, spec)
    return _resolve_python(stage, spec, settings)


def node_of(stage: StageSpec, resolved: ResolvedStage) -> Node:
    """The stage as the wiring takes it."""
    has_rows = True
    if isinstance(resolved, ResolvedModel):
        info, has_rows = resolved.info, resolved.info.batchable
        types = {spec.name: of_tensor(spec, rows=has_rows) for spec in info.inputs}
        takes = tuple(Port(name, type_, type_.annotation) for name, type_ in types.items())
        gives = {spec.name: of_tensor(spec, rows=has_rows) for spec in info.outputs}
        node = Node(stage.stage, "onnx", takes, gives)
    elif isinstance(resolved, ResolvedCallee):
        node = Node(
            stage.stage,
            "function",
            resolved.takes,
            resolved.gives,
            is_unnamed=resolved.is_unnamed,
            is_split_python=resolved.is_split_python,
        )
    else:
        signature = resolved.signature
        gives = {name or stage.stage: type_ for name, type_ in signature.gives.items()}
        is_unnamed = "" in signature.gives
        node = Node(stage.stage, "python", signature.params, gives, is_unnamed=is_unnamed)
    return replace(
        node,
        inputs=stage.inputs,
        pad=stage.pad,
        outputs=stage.outputs,
        each=stage.each,
        when=None if stage.when is None else parse_condition(stage.when),
        has_rows=has_rows,
    )


@dataclass(frozen=True, slots=True)
class CallOfStage:
    """A function that a stage calls.

    Attributes:
        function: its name.
        key: of the stage's declaration, for what is wrong with it.
        parameter: of the stage that is given it; empty: the whole stage is the function.
        at_load: the stage is given it when it is constructed.
    """

    function: str
    key: str
    parameter: str = ""
    at_load: bool = False


def calls_of_stage(stage: StageSpec) -> tuple[CallOfStage, ...]:
    """The functions that a stage calls. A Python stage is imported for it; one that cannot be read
    calls none, and ``resolve_stage`` says why. A module that does not import is not tried again
    until ``forget_failed_imports``.
    """
    if stage.function is not None:
        return (CallOfStage(stage.function, "function"),)
    if stage.python is None:
        return ()
    try:
        target = _import_target(stage)
        handles = [(handle, False) for handle in _cached_signature(target).handles]
        if isinstance(target, type):
            handles += [(handle, True) for handle in init_handles(target)]
    except StageImportError as error:
        _failed_imports[error.module] = error
        return ()
    except (LoadError, ArgumentError, SignatureError):
        return ()
    return tuple(
        CallOfStage(handle.function, "python", handle.name, at_load) for handle, at_load in handles
    )


def find_callees(spec: DeclaredSpec) -> list[tuple[int, CallOfStage]]:
    """The functions that a function's stages call, with the stages' indexes: those that a stage is,
    and those that a stage is given. What the rest of Wakeful knows of it is
    ``DeployedFacts.calls``, which is written from this.
    """
    return [
        (index, call) for index, stage in enumerate(spec.graph) for call in calls_of_stage(stage)
    ]


_failed_imports: dict[str, StageImportError] = {}
"""By module, why it did not import when the functions that its stages call were looked for: it may
have taken seconds, and printed something.
"""


def forget_failed_imports() -> None:
    """Modules may have changed: a file is looked at anew."""
    _failed_imports.clear()


def _known_callee(name: str, spec: FunctionSpec) -> CalleeSpec:
    callee = spec.deployed.calls.get(name)
    if callee is None:
        raise LoadError(
            f"nothing is known here of the function {name!r}: `serve deploy` reads one application"
            " at a time. Use `wakeful up`, or deploy the file that `wakeful export serve` prints."
        )
    return callee


def _resolve_callee(name: str, spec: FunctionSpec) -> ResolvedCallee:
    callee, declaration = _known_callee(name, spec), spec.declaration_of(name)
    return ResolvedCallee(
        ports_from_json(callee.takes),
        {value: type_from_json(data) for value, data in callee.gives.items()},
        any(data.get("is_unnamed") for data in callee.gives.values()),
        declaration["deployed"]["part_of"] == spec.name and "python" in declaration["graph"][0],
    )


def _import_target(stage: StageSpec) -> Callable[..., Any]:
    """What a Python stage names.

    Raises:
        LoadError: it does not import, or cannot be called.
    """
    module_name, _, attribute = (stage.python or "").partition(":")
    if module_name in _failed_imports:
        raise _failed_imports[module_name]
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's module raises, sys.exit included
        message = import_failure_message(stage.python or "", error)
        raise StageImportError(message, module_name) from error
    target = getattr(module, attribute, None)
    if target is None:
        hint = did_you_mean(attribute, dir(module)) or "."
        raise LoadError(f"module {module_name!r} has no {attribute!r}{hint}")
    if not callable(target):
        raise LoadError(f"{stage.python} is no function and no class with __call__.")
    if isinstance(target, type) and (
        "__call__" not in dir(target) or target.__call__ is type.__call__
    ):
        raise LoadError(f"class {stage.python} has no __call__, which does a stage's work.")
    found: Callable[..., Any] = target
    return found


def _resolve_python(stage: StageSpec, spec: FunctionSpec, settings: Settings) -> ResolvedPython:
    target = _import_target(stage)
    if isinstance(target, type):
        handles = init_handles(target)
        arguments = init_arguments(target, stage, spec, settings, handles)
        signature = _cached_signature(target)
        resolved = ResolvedPython(target, signature, arguments, settings.secrets.hide, handles)
    elif stage.with_:
        raise ArgumentError(
            f"{stage.python} is a function; 'with' gives a class the arguments of its __init__."
        )
    else:
        resolved = ResolvedPython(target, _cached_signature(target), {})
    for handle in (*resolved.signature.handles, *resolved.init_handles):
        _known_callee(handle.function, spec)
    return resolved


_signatures: weakref.WeakKeyDictionary[Callable[..., Any], Signature] = weakref.WeakKeyDictionary()
"""Signatures read before: a function that wakes again saves half a millisecond of ``forecast``'s
load. Keys are weak, so that code that was replaced is not kept.
"""


def _cached_signature(target: Callable[..., Any]) -> Signature:
    try:
        known = _signatures.get(target)
    except TypeError:  # an object with slots, or without a hash
        return read_signature(target)
    if known is None:
        known = _signatures[target] = read_signature(target)
    return known
