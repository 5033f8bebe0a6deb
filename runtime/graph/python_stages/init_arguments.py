"""What ``__init__`` of a stage's class is given: the values of ``with:``, and the functions that
its annotations name (``runtime.types.call_handles``).

Secrets among the values are filled in, and a text where a ``Path`` is annotated becomes the file or
folder of that name, from the root folder.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from runtime.artifacts.sources import RELATIVE_PATHS
from runtime.declaration.function_spec import FunctionSpec, StageSpec
from runtime.graph.python_stages.annotation_refusals import SignatureError
from runtime.graph.python_stages.signature import HandleParameter, read_handles
from runtime.settings import Settings
from runtime.system.files import did_you_mean_file
from runtime.system.messages import did_you_mean, expected_message, quote
from runtime.system.secrets import fill_references
from runtime.types.call_handles import advice_on_quotes


class ArgumentError(ValueError):
    """What ``with:`` gives is not what the stage's ``__init__`` takes."""


_init_handles: weakref.WeakKeyDictionary[type, tuple[HandleParameter, ...]] = (
    weakref.WeakKeyDictionary()
)
"""What was read before, as ``runtime.graph.resolved_stages`` keeps signatures."""


def init_handles(target: type) -> tuple[HandleParameter, ...]:
    """The functions that a class's ``__init__`` is given.

    Raises:
        ArgumentError: an annotation that may be of one cannot be read.
        SignatureError: it is written so that it cannot be given.
    """
    known = _init_handles.get(target)
    if known is None:
        known = _init_handles[target] = _read_init_handles(target)
    return known


def _read_init_handles(target: type) -> tuple[HandleParameter, ...]:
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except ValueError:  # of a class of C's
        return ()
    written = [parameter.annotation for parameter in parameters]
    if all(isinstance(annotation, type) for annotation in written):  # "none" is one, too
        hints = dict(zip([one.name for one in parameters], written, strict=True))
    else:
        try:
            hints = _init_hints(target)
        except ArgumentError:  # others need not be known at run time
            if not any("Call" in str(annotation) for annotation in written):
                return ()
            raise
    try:
        return read_handles(parameters, hints, by_name=True)
    except SignatureError as error:
        raise SignatureError(f"__init__: {error}") from None


def init_arguments(
    target: type,
    stage: StageSpec,
    spec: FunctionSpec,
    settings: Settings,
    handles: Sequence[HandleParameter] = (),
) -> dict[str, Any]:
    """The values of ``with:`` as ``__init__`` takes them, but for the functions that it is given.

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
    given = {handle.name: handle.function for handle in handles}
    for name in stage.with_:
        if name in given:
            raise ArgumentError(
                f"{name!r} of {target.__name__}.__init__ is given the function {given[name]!r}, as"
                " its annotation says. Delete the line."
            )
        if name not in signature.parameters:
            hint = did_you_mean(name, signature.parameters) or "."
            raise ArgumentError(f"{target.__name__}.__init__ has no {name!r}{hint}")
    try:
        signature.bind(**stage.with_, **given)
    except TypeError as error:
        raise ArgumentError(
            f"{target.__name__}.__init__ does not take these values: {error}."
        ) from error
    hints = _init_hints(target) if stage.with_ else {}
    for name, written in stage.with_.items():
        is_default = written is None and signature.parameters[name].default is None
        if not is_default and (issue := argument_issue(written, hints.get(name), name)):
            raise ArgumentError(issue)
    marks = spec.deployed.secrets
    arguments: dict[str, Any] = fill_references(
        stage.with_, lambda name: secrets.find(name, marks.get(name, "")) or ""
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
    init = inspect.getattr_static(target, "__init__")
    try:
        return typing.get_type_hints(init, include_extras=True)
    except NameError as error:
        advice = advice_on_quotes(getattr(init, "__annotations__", {}).values(), error.name)
        raise ArgumentError(
            f"an annotation of {target.__name__}.__init__ names {error.name!r}, which its module"
            " does not define."
            + (
                advice
                or " Import it where the module runs, not under TYPE_CHECKING: which values are"
                " files is read from the annotations."
            )
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
