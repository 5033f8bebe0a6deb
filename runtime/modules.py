"""The modules of a project that a module imports, and those that these import in turn: found by reading them, none is imported.

A project's module is found as Python would find it, along ``sys.path``, and is neither Python's, nor installed (below ``site-packages``),
nor Wakeful's. What is imported counts wherever the statement stands, within a function or for type checking too. What a call computes the
name of (``importlib.import_module``), and what an ``import *`` brings in by ``__all__``, is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import pkgutil
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

OWN: Final = frozenset({"runtime", "deployments"})
"""Wakeful's own packages, which may lie in a project's folder: another Wakeful takes `wakeful down` and `up`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module as it lies on disk.

    Attributes:
        file: None for a package without ``__init__``.
        sha256: of the file; empty without one.
        imports: names that it may import: of ``from a import b`` both ``a`` and ``a.b``, which may be no module.
        folders: where the modules of a package are.
    """

    name: str
    file: Path | None
    sha256: str
    imports: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()

    @property
    def is_compiled(self) -> bool:
        """A process loads a C extension once, and keeps it."""
        return self.file is not None and self.file.name.endswith(tuple(EXTENSION_SUFFIXES))


class Reading:
    """A look at modules, each of which is read once; made anew for each look.

    Mutable state: ``_sources``, by name; None for what is no module of the project.
    """

    def __init__(self) -> None:
        self._sources: dict[str, Source | None] = {}

    def source(self, name: str) -> Source | None:
        """A module of the project; None for any other, and for none."""
        if name not in self._sources:
            self._sources[name] = self._read(name)
        return self._sources[name]

    def reach(self, names: Iterable[str]) -> dict[str, Source]:
        """These modules, the packages that they are in, and all of the project that is imported from there, by name."""
        found: dict[str, Source] = {}
        left = [part for name in names for part in within(name)]
        while left:
            name = left.pop()
            if name not in found and (source := self.source(name)) is not None:
                found[name] = source
                left += [part for imported in source.imports for part in within(imported)]
        return found

    def _read(self, name: str) -> Source | None:
        package, _, _ = name.rpartition(".")
        if not package:
            if name in sys.stdlib_module_names or name in OWN:
                return None
            return _found(name, [folder or str(Path.cwd()) for folder in sys.path])
        around = self.source(package)
        return _found(name, around.folders) if around is not None else None


def within(name: str) -> Iterator[str]:
    """A module and the packages that it is in, outermost first: importing it imports them all."""
    parts = name.split(".")
    return (".".join(parts[:size]) for size in range(1, len(parts) + 1))


def digest_of(modules: Mapping[str, str]) -> str:
    """A short hash of modules, by name the ``sha256`` of each: the same wherever the project lies."""
    return hashlib.sha256("\n".join(f"{name} {sha256}" for name, sha256 in sorted(modules.items())).encode()).hexdigest()[:16]


def is_projects(path: str) -> bool:
    """Whether a file or folder is neither Python's nor installed."""
    return not (path.startswith(_installed()) or {"site-packages", "dist-packages"} & set(Path(path).parts))


@cache
def _installed() -> tuple[str, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(f"{path}{os.sep}" for path in {*paths, *site.getsitepackages(), site.getusersitepackages()})


def _found(name: str, folders: Iterable[str]) -> Source | None:
    """As Python finds it: the first folder with a module or a package decides, else all with a folder of the name make up a package."""
    portions: list[str] = []
    for folder in folders:
        importer = pkgutil.get_importer(folder)
        spec = importer.find_spec(name) if importer is not None else None
        if spec is None:
            continue
        if spec.loader is None:
            portions += spec.submodule_search_locations or ()
        elif spec.origin is None or not is_projects(spec.origin):
            return None
        else:
            return _source(name, Path(spec.origin), tuple(spec.submodule_search_locations or ()))
    portions = [portion for portion in portions if is_projects(portion)]
    return Source(name, None, "", folders=tuple(portions)) if portions else None


def _source(name: str, file: Path, folders: tuple[str, ...]) -> Source | None:
    try:
        content = file.read_bytes()
    except OSError:  # gone meanwhile, or in an archive
        return None
    package = name if folders else name.rpartition(".")[0]
    imports = frozenset(_imports(content, package)) if file.suffix == ".py" else frozenset()
    return Source(name, file, hashlib.sha256(content).hexdigest(), imports, folders)


def _imports(content: bytes, package: str) -> Iterator[str]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # whoever imports it says so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:  # above its package; importing it fails
                continue
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
