"""A stage's parts found without running it: the Python object with its arguments, the model file,
or the interface of the function that it calls.

The values of ``with:`` become what ``__init__`` takes: secrets are filled in, and a text where a
``Path`` is annotated becomes the file or folder of that name, from the root folder.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import typing
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from runtime.artifacts.sources import RELATIVE_PATHS, resolve_model
from runtime.artifacts.tracebacks import add_note, error_message, import_failure_message
from runtime.declaration.function_spec import FunctionSpec, StageSpec
from runtime.errors import LoadError
from runtime.graph.graph import Node, Port
from runtime.graph.interfaces import ports_from_json, type_from_json
from runtime.graph.signature import Signature, read_signature
from runtime.onnx.model_info import ModelInfo
from runtime.onnx.session import Session
from runtime.settings import Settings
from runtime.system.extras import stage_fix
from runtime.system.files import did_you_mean_file
from runtime.system.messages import did_you_mean, expected_message, quote
from runtime.system.secrets import fill_references
from runtime.types.conditions import parse_condition
from runtime.types.value_types import ValueType, of_tensor


class ArgumentError(ValueError):
    """What ``with:`` gives is not what the stage's ``__init__`` takes."""


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


def _resolve_callee(name: str, spec: FunctionSpec) -> ResolvedCallee:
    callee = spec.calls.get(name)
    if callee is None:
        raise LoadError(
            f"nothing is known here of the function {name!r}: `serve deploy` reads one application"
            " at a time. Use `wakeful up`, or deploy the file that `wakeful export serve` prints."
        )
    return ResolvedCallee(
        ports_from_json(callee.takes),
        {value: type_from_json(data) for value, data in callee.gives.items()},
        any(data.get("is_unnamed") for data in callee.gives.values()),
        callee.args.get("part_of") == spec.name and "python" in callee.args["graph"][0],
    )


def _resolve_python(stage: StageSpec, spec: FunctionSpec, settings: Settings) -> ResolvedPython:
    module_name, _, attribute = (stage.python or "").partition(":")
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
    if isinstance(target, type):
        if "__call__" not in dir(target) or target.__call__ is type.__call__:
            raise LoadError(f"class {stage.python} has no __call__, which does a stage's work.")
        arguments = _init_arguments(target, stage, spec, settings)
        return ResolvedPython(target, _cached_signature(target), arguments, settings.secrets.hide)
    if stage.with_:
        raise ArgumentError(
            f"{stage.python} is a function; 'with' gives a class the arguments of its __init__."
        )
    return ResolvedPython(target, _cached_signature(target), {})


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


def _init_arguments(
    target: type, stage: StageSpec, spec: FunctionSpec, settings: Settings
) -> dict[str, Any]:
    """The values of ``with:`` as ``__init__`` takes them.

    Raises:
        ArgumentError: one of them does not fit.
    """
    secrets = settings.secrets
    try:
        signature = inspect.signature(target)
    except ValueError as error:  # of a class of C's, such as `dict` or `threading.local`
        if not stage.with_:
            return {}
        raise ArgumentError(
            f"what {target.__name__}.__init__ takes cannot be read: it is not written in Python."
            " Write one in the class."
        ) from error
    for name in stage.with_:
        if name not in signature.parameters:
            hint = did_you_mean(name, signature.parameters) or "."
            raise ArgumentError(f"{target.__name__}.__init__ has no {name!r}{hint}")
    try:
        signature.bind(**stage.with_)
    except TypeError as error:
        raise ArgumentError(
            f"{target.__name__}.__init__ does not take these values: {error}."
        ) from error
    hints = _init_hints(target) if stage.with_ else {}
    for name, written in stage.with_.items():
        is_default = written is None and signature.parameters[name].default is None
        if not is_default and (issue := argument_issue(written, hints.get(name), name)):
            raise ArgumentError(issue)
    arguments: dict[str, Any] = fill_references(
        stage.with_, lambda name: secrets.find(name, spec.secrets.get(name, "")) or ""
    )
    return {
        name: to_annotated(arguments[name], written, hints.get(name), settings.root, name)
        for name, written in stage.with_.items()
    }


def _init_hints(target: type) -> dict[str, Any]:
    """The annotations of ``__init__``.

    Raises:
        ArgumentError: one of them cannot be evaluated.
    """
    try:
        return typing.get_type_hints(
            inspect.getattr_static(target, "__init__"), include_extras=True
        )
    except NameError as error:
        raise ArgumentError(
            f"an annotation of {target.__name__}.__init__ names {error.name!r}, which its module"
            " does not define. Import it where the module runs, not under TYPE_CHECKING: which"
            " values are files is read from the annotations."
        ) from error
    except Exception as error:  # whatever evaluating a user's annotation raises
        raise ArgumentError(
            f"an annotation of {target.__name__}.__init__ cannot be read: {type(error).__name__}:"
            f" {error}."
        ) from error


_LISTS: Final[Mapping[Any, Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
}
_MAPPINGS: Final = (dict, Mapping)


def to_annotated(value: Any, written: Any, annotation: Any, root: Path, place: str) -> Any:
    """A value of ``with`` as ``__init__`` takes it: a text where a ``Path`` is annotated becomes
    the path of a file or folder, from ``root``.

    ``Path | None``, lists, tuples, sets and mappings of paths are looked into. With ``str | Path``
    a text becomes a path if something is there.

    Args:
        written: the value as the file has it, its secrets not filled in; messages show it.
        place: of the value, for messages.

    Raises:
        ArgumentError: nothing is there.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return to_annotated(value, written, args[0], root, place)
    if annotation is Path:
        return _to_path(value, written, root, place)
    if origin in (Union, UnionType):
        return _to_union(value, written, args, root, place)
    if origin in _LISTS and isinstance(value, list) and args:
        kinds = args if origin is tuple and args[-1] is not Ellipsis else (args[0],) * len(value)
        if not any(map(_has_path, kinds)) or len(kinds) != len(value):
            return value
        items = zip(value, written, kinds, strict=True)
        return _LISTS[origin](
            to_annotated(*item, root, f"{place}[{index}]") for index, item in enumerate(items)
        )
    if origin in _MAPPINGS and isinstance(value, dict) and _has_path(args[1]):
        return {
            key: to_annotated(value[key], written[key], args[1], root, f"{place}.{key}")
            for key in value
        }
    return value


def _to_union(value: Any, written: Any, kinds: Sequence[Any], root: Path, place: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, str) and str in kinds:
        with contextlib.suppress(OSError, ValueError):
            return root / value if Path in kinds and (root / value).exists() else value
        return value
    shape = list if isinstance(value, list) else dict if isinstance(value, dict) else Path
    fitting = [kind for kind in kinds if _has_path(kind) and _has_shape(kind, shape)]
    return to_annotated(value, written, fitting[0], root, place) if fitting else value


def _has_shape(kind: Any, shape: type) -> bool:
    origin = get_origin(kind)
    if origin is Annotated:
        return _has_shape(get_args(kind)[0], shape)
    return kind is Path if shape is Path else origin in (_LISTS if shape is list else _MAPPINGS)


def _to_path(value: Any, written: Any, root: Path, place: str) -> Path:
    if not isinstance(value, str):
        raise ArgumentError(f"{place!r}: a path is text; {written!r} is none.")
    try:
        if (path := root / value).exists():
            return path
    except (OSError, ValueError):  # too long for a path, or with a null character
        pass
    near = "." if written != value else did_you_mean_file(root / value)
    raise ArgumentError(
        f"{place!r}: there is no file {quote(written)}{near} {RELATIVE_PATHS.format(root=root)}"
        " If it is a model's, run `wakeful models pull`."
    )


def _has_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_has_path, get_args(annotation)))


_WANTED: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    NoneType: "null",
    **dict.fromkeys(_LISTS, "a list"),
    **dict.fromkeys(_MAPPINGS, "a mapping"),
}


def argument_issue(value: Any, annotation: Any, place: str) -> str:
    """What is wrong with a value of ``with``, in a sentence; empty where it fits, or the annotation
    is none that is known here: numbers, text, truth values, ``Literal``, lists, mappings and unions
    of these.

    A number passes for any kind of number that equals it (``3`` for a ``float``, ``8.0`` for an
    ``int``, ``1`` for a ``bool``), since the stage works with it as well.

    Args:
        place: of the value, for the sentence: ``'labels[2]'``.
    """
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return argument_issue(value, args[0], place)
    if isinstance(value, str) and "${" in value:  # what a secret is, the stage sees
        return ""
    if origin in (Union, UnionType):
        issues = [argument_issue(value, kind, place) for kind in args]
        kinds = [kind for kind in args if kind is not NoneType]
        if not all(issues) or len(kinds) == 1:
            return argument_issue(value, kinds[0], place) if all(issues) else ""
        return f"{place!r}: {expected_message(value, ' or '.join(map(_wanted, kinds)))}"
    wanted = _wanted(annotation)
    if origin is Literal:
        return "" if value in args else f"{place!r}: {quote(value)} is not {wanted}."
    if not wanted:
        return ""
    if wanted == "a list" and isinstance(value, list):
        is_fixed = origin is tuple and args[-1:] != (Ellipsis,)
        each = args if is_fixed else args[:1] * len(value)
        parts = [
            (f"{place}[{at}]", *pair) for at, pair in enumerate(zip(value, each, strict=False))
        ]
    elif wanted == "a mapping" and isinstance(value, dict):
        parts = [(f"{place}.{key}", value[key], args[1]) for key in value if args]
    elif _is(value, origin):
        return ""
    else:
        return f"{place!r}: {expected_message(value, wanted)}"
    return next(filter(None, (argument_issue(part, kind, at) for at, part, kind in parts)), "")


def _wanted(annotation: Any) -> str:
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return _wanted(args[0])
    if origin is Literal:
        return f"one of {', '.join(map(quote, args))}"
    return _WANTED.get(origin, "")


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, int | float) and kind in (bool, int, float):
        try:
            return isinstance(value, kind) or kind(value) == value
        except (OverflowError, ValueError):  # infinity and NaN are no integers
            return False
    return isinstance(value, kind)
