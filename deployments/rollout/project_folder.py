"""What the folder of a file and the installation make of it: modules of the project's that hide
others or are hidden, and packages that its functions need and that are not installed.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from runtime.declaration.config_file import ConfigFile
from runtime.errors import Problem
from runtime.system.extras import is_installed, missing_message

OURS: Final = ("wakeful", "runtime", "deployments")
"""The top-level packages of an installation."""

INSTALLED: Final = Path(__file__).resolve().parents[2]
"""The folder that they lie in."""


def shadowing_modules(folders: Iterable[Path]) -> list[Problem]:
    """Modules in folders that stages are imported from, with the name of a module of the standard
    library: Ray would import them instead.
    """
    message = (
        "Ray's processes would import it instead of the standard library's module of that name, "
        "and not start. Give it another name."
    )
    found = [
        path
        for folder in folders
        for path in sorted(folder.glob("*.py"))
        if path.stem in sys.stdlib_module_names
    ]
    return [Problem(str(path), 1, "", message) for path in found]


def shadowing_packages(folders: Iterable[Path]) -> list[Problem]:
    """Packages and modules in folders that stages are imported from, with the name of one of
    Wakeful's own: a process has only one of the two. The folder of Wakeful's packages may itself be
    among the folders.
    """
    found = [
        path
        for folder in folders
        if folder.resolve() != INSTALLED
        for name in OURS
        for path in (folder / name / "__init__.py", folder / f"{name}.py")
        if path.is_file()
    ]
    return [Problem(str(path), 0, "", _SHADOWED.format(name=_module(path))) for path in found]


_SHADOWED: Final = (
    "Wakeful has a package {name!r} of its own: stages cannot be imported from this one, and tests "
    "and `wakeful up` would take it for Wakeful's. Rename it, {name}_ for instance, and what "
    "imports it."
)


def doubled_modules(folders: Iterable[Path]) -> list[Problem]:
    """Modules in folders that stages are imported from, with the name of one that is installed, or
    of the standard library's: a process has only one of the two, whichever was imported first.
    """
    installed = list({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    found = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.py"))):
        name = path.stem
        if name in sys.stdlib_module_names:
            other = "Python's standard library"
        elif name not in OURS and (spec := PathFinder.find_spec(name, installed)) and spec.origin:
            other = f"an installed package ({spec.origin})"
        else:
            continue
        found.append(Problem(str(path), 0, "", _DOUBLED.format(name=name, other=other)))
    return found


_DOUBLED: Final = (
    "{other} has a module {name!r} too, and `import {name}` gives one of the two, here and in what "
    "is installed: the one that was imported first. Rename it, {name}_ for instance, and what "
    "imports it."
)


def _module(path: Path) -> str:
    return path.parent.name if path.name == "__init__.py" else path.stem


def missing_build(file: ConfigFile) -> list[Problem]:
    """The first model of a file, where no build of ONNX Runtime is installed that could run it."""
    for function in file.functions:
        for index, stage in enumerate(function.graph):
            if stage.onnx is not None:
                if is_installed("onnxruntime"):
                    return []
                key = f"{file.stage_key(function.name, index)}.onnx"
                return [file.problem(key, missing_message("onnxruntime", "an ONNX model"))]
    return []
