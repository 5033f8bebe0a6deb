"""Describes an exception of a stage's code for its author: the message, and the line of the
project's own files that it comes from; or why a stage's module does not import.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from runtime.artifacts.python_imports import is_project_module
from runtime.system.extras import stage_fix
from runtime.system.files import resolve_path
from runtime.system.messages import closest_match
from runtime.types.call_handles import advice_on_quotes

_WAKEFUL: Final = tuple(
    f"{Path(__file__).parents[2] / folder}{os.sep}"
    for folder in ("wakeful", "runtime", "deployments")
)

E = TypeVar("E", bound=Exception)

MOST_FRAMES: Final = 8
"""Frames of a traceback that are shown: those nearest the fault."""


def error_message(error: BaseException) -> str:
    """One sentence: ``KeyError: 'label' (sent.py:30, in answer)``. A stage's error may quote
    the row that it was given: not for clients.
    """
    where = "" if isinstance(error, SyntaxError) else error_place(error)
    return f"{exception_text(error)}{f' ({where})' if where else ''}"


def error_place(error: BaseException) -> str:
    """The project's line that it comes from: ``sent.py:30, in answer``; empty where no frame is in
    the project.
    """
    frames = own_frames(error)
    return (
        f"{relative_name(frames[-1].filename)}:{frames[-1].lineno}, in {frames[-1].name}"
        if frames
        else ""
    )


def place_of(call: Callable[..., Any]) -> str:
    """Where a function, or the ``__call__`` of an object, is defined: ``sent.py:9, in answer``;
    empty for what has no Python code.
    """
    found = inspect.unwrap(call)
    code = getattr(found if inspect.isroutine(found) else type(found).__call__, "__code__", None)
    if code is None:
        return ""
    return f"{relative_name(code.co_filename)}:{code.co_firstlineno}, in {code.co_qualname}"


def exception_text(error: BaseException) -> str:
    """The exception's last line, as Python prints it."""
    return (
        "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        if not isinstance(error, SyntaxError)
        else _syntax(error)
    )


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Its frames in files of the project, outermost first."""
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if is_project_file(frame.filename)
    ][-MOST_FRAMES:]


def add_note(shown: Exception, error: BaseException, hide: Callable[[str], str] = str) -> None:
    """Add an exception's message and its frames as notes to the error that a caller gets; only the
    log shows notes.
    """
    for line in (f"  {exception_text(error)}", *format_frames(own_frames(error))):
        shown.add_note(hide(line))


def notes_of(error: BaseException) -> str:
    """The notes of an error as a log shows them, below its message."""
    return "".join(f"\n{line}" for line in getattr(error, "__notes__", ()))


def with_notes(shown: E, error: BaseException, hide: Callable[[str], str] = str) -> E:
    """An error that replaces another, with the other's notes."""
    for line in getattr(error, "__notes__", ()):
        shown.add_note(hide(line))
    return shown


def is_project_file(filename: str) -> bool:
    """Whether a file is the project's: neither installed, nor Python's, nor Wakeful's."""
    return not filename.startswith(("<", *_WAKEFUL)) and is_project_module(filename)


def is_wakefuls(filename: str) -> bool:
    """Whether a file is of this package's own code."""
    return filename.startswith(_WAKEFUL)


def relative_name(filename: str) -> str:
    """A file's path, relative to the working folder if it lies in it."""
    relative = os.path.relpath(filename)
    return filename if relative.startswith("..") else relative


def format_frames(frames: Iterable[traceback.FrameSummary]) -> Iterable[str]:
    """A line for each frame, as logs show it: ``  sent.py:30, in answer: return 1 / 0``."""
    for frame in frames:
        yield (
            f"  {relative_name(frame.filename)}:{frame.lineno}, in {frame.name}:"
            f" {(frame.line or '').strip()}"
        )


def _syntax(error: SyntaxError) -> str:
    place = f" ({relative_name(error.filename)}:{error.lineno})" if error.filename else ""
    return f"{type(error).__name__}: {error.msg}{place}"


def import_failure_message(reference: str, error: BaseException) -> str:
    """The sentence for a ``python: module:attribute`` whose import raised."""
    module, _, attribute = reference.partition(":")
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{module}.".startswith(f"{missing}."):
        fix = _quotes_fix(error) or stage_fix(error)
        return f"module {module!r} does not import: {error_message(error)}.{fix}"
    if module.endswith(".py"):
        return (
            f"module {module!r} does not import. A module is written without '.py':"
            f" '{module[:-3]}:{attribute}'."
        )
    package, dot, last = missing.rpartition(".")
    folders = _package_folders(package)
    if not package and (source := _source_folder(missing, folders)):
        where = relative_name(str(source))
        return (
            f"module {module!r} does not import: {missing!r} is in {where}, where Python does not"
            f" look. Run `pip install -e .` in its project, or set WAKEFUL_ROOT={where}, from which"
            " paths of models and files are then read."
        )
    meant = closest_match(last, [found.name for found in pkgutil.iter_modules(folders)])
    hint = f", did you mean '{package}{dot}{meant}'?" if meant else "."
    return (
        f"module {module!r} does not import: there is no {missing!r} in"
        f" {', '.join(folders) or 'any folder of the project'}{hint}"
    )


def _quotes_fix(error: BaseException) -> str:
    """What to write where the name of a function has no quotes, and so is that of a variable."""
    if not isinstance(error, NameError):
        return ""
    return advice_on_quotes([frame.line for frame in own_frames(error)[-1:]], error.name)


def _source_folder(module: str, folders: Iterable[str]) -> Path | None:
    """The folder ``src`` below one of these that has a top-level module; None: there is none."""
    for folder in folders:
        source = Path(folder) / "src"
        if (source / module).is_dir() or (source / f"{module}.py").is_file():
            return source
    return None


def _package_folders(package: str) -> Sequence[str]:
    """Folders where Python looked for a module of a package, or for a top-level one, that may be
    the project's.
    """
    if package:
        return list(dict.fromkeys(getattr(sys.modules.get(package), "__path__", ())))
    found = list[Path]()
    for entry in sys.path:
        with contextlib.suppress(OSError):  # one at which nothing can be, as Python passes over it
            if (folder := resolve_path(Path(entry or "."))).is_dir():
                found.append(folder)
    pythons = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    return list(
        dict.fromkeys(
            str(folder) for folder in found if not pythons.intersection((folder, *folder.parents))
        )
    )
