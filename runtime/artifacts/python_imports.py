"""Finds the modules of a project that a module imports, and those that they import in turn, by
reading the files; none is imported.

A project's module is found as Python would find it, along ``sys.path``, and is neither Python's,
nor installed (below ``site-packages``), nor Wakeful's. An import counts wherever
the statement is, within a function or for type checking too. Names that a call computes
(``importlib.import_module``), and those that ``import *`` brings in by ``__all__``, are not found.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import site
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

OWN: Final = frozenset({"wakeful", "runtime", "deployments"})
"""Wakeful's own packages, which may lie in a project's folder: another Wakeful takes `wakeful down`
and `up`.
"""

_lock: Final = threading.Lock()
_noted_digests: Final[dict[str, str]] = {}
"""The digest of each module's file when this process imported the module, or was about to."""
_reached: Final[dict[tuple[str, ...], tuple[str, ...]]] = {}
"""By the names passed to ``imported``, the modules that they reached at that time."""


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """A module as it lies on disk.

    Attributes:
        file: None for a package without ``__init__``.
        sha256: of the file; empty without one.
        imports: names that it may import: of ``from a import b`` both ``a`` and ``a.b``, which may
            be no module.
        folders: where the modules of a package are.
    """

    name: str
    file: Path | None
    sha256: str
    imports: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()


class ImportScanner:
    """Reads modules, each once; make a new scanner to see changed files.

    Mutable state: ``_sources``, by name; None for what is no module of the project.
    """

    def __init__(self) -> None:
        self._sources: dict[str, ModuleSource | None] = {}

    def source(self, name: str) -> ModuleSource | None:
        """A module of the project; None for any other name."""
        if name not in self._sources:
            self._sources[name] = self._read(name)
        return self._sources[name]

    def reach(self, names: Iterable[str]) -> dict[str, ModuleSource]:
        """These modules, the packages that they are in, and all modules of the project that they
        import, directly or not, by name.
        """
        found: dict[str, ModuleSource] = {}
        pending = [part for name in names for part in parent_packages(name)]
        while pending:
            name = pending.pop()
            if name not in found and (source := self.source(name)) is not None:
                found[name] = source
                pending += [
                    part for imported in source.imports for part in parent_packages(imported)
                ]
        return found

    def _read(self, name: str) -> ModuleSource | None:
        package, _, _ = name.rpartition(".")
        if not package:
            if name in sys.stdlib_module_names or name in OWN:
                return None
            return _find(name, [folder or str(Path.cwd()) for folder in sys.path])
        parent = self.source(package)
        return _find(name, parent.folders) if parent is not None else None


def parent_packages(name: str) -> Iterator[str]:
    """A module and the packages that it is in, outermost first: importing it imports them all."""
    parts = name.split(".")
    return (".".join(parts[:size]) for size in range(1, len(parts) + 1))


def digest_of(modules: Mapping[str, str]) -> str:
    """A short hash of modules, by name the ``sha256`` of each: the same wherever the project
    lies.
    """
    return hashlib.sha256(
        "\n".join(f"{name} {sha256}" for name, sha256 in sorted(modules.items())).encode()
    ).hexdigest()[:16]


def imported(names: Sequence[str]) -> str:
    """The digest of modules, and of what they import in turn, as this process has them. Call it
    before they are imported; it blocks.

    A process imports a module once and keeps it: a file that was edited since is not what runs. So
    a module counts as its file was at the first call after which it was imported.

    Returns:
        as ``digest_of``; empty where no module is the project's.
    """
    key = tuple(names)
    with _lock:
        if key not in _reached or not all(name in sys.modules for name in key):
            importlib.invalidate_caches()  # the file may be newer than Python's list of its folder
            reach = ImportScanner().reach(key)
            _noted_digests.update(
                {
                    name: source.sha256
                    for name, source in reach.items()
                    if name not in _noted_digests or name not in sys.modules
                }
            )
            _reached[key] = tuple(reach)
        return (
            digest_of({name: _noted_digests[name] for name in _reached[key]})
            if _reached[key]
            else ""
        )


def is_project_module(path: str) -> bool:
    """Whether a file or folder is neither Python's nor installed."""
    return not (
        path.startswith(_installation_folders())
        or {"site-packages", "dist-packages"} & set(Path(path).parts)
    )


@cache
def _installation_folders() -> tuple[str, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(
        f"{path}{os.sep}" for path in {*paths, *site.getsitepackages(), site.getusersitepackages()}
    )


def _find(name: str, folders: Iterable[str]) -> ModuleSource | None:
    """Find a module as Python does: the first folder with a module or a package of the name
    decides; otherwise all folders of the name together are a namespace package.
    """
    portions: list[str] = []
    for folder in folders:
        importer = pkgutil.get_importer(folder)
        spec = importer.find_spec(name) if importer is not None else None
        if spec is None:
            continue
        if spec.loader is None:
            portions += spec.submodule_search_locations or ()
        elif spec.origin is None or not is_project_module(spec.origin):
            return None
        else:
            return _source(name, Path(spec.origin), tuple(spec.submodule_search_locations or ()))
    portions = [portion for portion in portions if is_project_module(portion)]
    return ModuleSource(name, None, "", folders=tuple(portions)) if portions else None


def _source(name: str, file: Path, folders: tuple[str, ...]) -> ModuleSource | None:
    try:
        content = file.read_bytes()
    except OSError:  # deleted meanwhile, or in an archive
        return None
    package = name if folders else name.rpartition(".")[0]
    imports = frozenset(_imports(content, package)) if file.suffix == ".py" else frozenset()
    return ModuleSource(name, file, hashlib.sha256(content).hexdigest(), imports, folders)


def _imports(content: bytes, package: str) -> Iterator[str]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # its import fails and says so
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
