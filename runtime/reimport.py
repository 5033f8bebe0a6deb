"""The modules of a project in a process that serves many functions and outlives their code.

A process has one module of a name, and keeps it whatever becomes of its file. So before a function is loaded whose code is another than
what was loaded here, the modules of its reach whose file has changed since they were imported are taken out of ``sys.modules``, together
with all that import them and the packages around them, whole; the load then imports them afresh. Functions that are loaded keep the
objects that they have: two versions of a module live beside each other, each as long as somebody uses it.

The modules that a function's code was made of are kept under its digest as long as somebody holds that (``Code``). Whoever is loaded from
the same code again gets the same modules, also if the files have changed meanwhile, or another version failed: a function that slept
wakes as it was declared.

What would break it: a module that is taken out while another thread imports (all is done under one lock), a package that keeps a former
submodule as its attribute (packages go whole), a C extension, which a process loads once (it stays, and the digest tells). What a stage
imports only while it runs is whatever the process has by then, and an import that hangs keeps the loads of other code waiting.
"""

from __future__ import annotations

import importlib
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

from runtime.modules import OWN, Reading, Source, digest_of, is_projects, within
from runtime.store.files import sha256_of


class Code:
    """The modules that a function's code consists of, with the digest of the file that each was imported from."""

    def __init__(self, modules: Mapping[str, tuple[ModuleType, str]]) -> None:
        self.modules = dict(modules)


class Taken:
    """What was imported for a load.

    Attributes:
        digest: of the code as it was imported; of what is not imported yet, as it lies on disk.
        code: to be held as long as the function may be loaded again; None where something did not import.
    """

    def __init__(self, digest: str, code: Code | None, found: Mapping[str, ModuleType | Exception]) -> None:
        self.digest = digest
        self.code = code
        self._found = found

    def module(self, name: str) -> ModuleType:
        """One of the modules that were asked for.

        Raises:
            Exception: whatever its import raised.
        """
        found = self._found[name]
        if isinstance(found, Exception):
            raise found
        return found


class _Recorder:
    """A finder that notes what each module of a project is imported from, at the moment when it is."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in OWN or (path is not None and not any(map(is_projects, path))):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        if spec.origin is None and any(map(is_projects, spec.submodule_search_locations or ())):
            _imported[name] = ""
        elif spec.origin is not None and is_projects(spec.origin) and Path(spec.origin).is_file():
            _imported[name] = sha256_of(Path(spec.origin))
        return spec


_RECORDER: Final = _Recorder()

_lock = threading.RLock()
_imported: dict[str, str] = {}
"""The digest of the file that each of the project's modules in ``sys.modules`` was imported from."""
_kept: weakref.WeakValueDictionary[str, Code] = weakref.WeakValueDictionary()
"""By digest, what functions of this process were loaded from."""


def take(names: Iterable[str], declared: str) -> Taken:
    """Imports modules so that they are the code of this digest, if that is on disk or was loaded here before; blocking.

    Where a module does not import, ``sys.modules`` is left as it was for those that had been taken out.

    Args:
        names: of the modules that stages are in.
        declared: the digest of them and of what they import, as ``Reading`` finds it.
    """
    names = list(dict.fromkeys(names))
    with _lock:
        _record()
        kept = _kept.get(declared)
        if kept is not None:
            _put(kept.modules)
            return Taken(declared, kept, _import(names))
        importlib.invalidate_caches()
        reading = Reading()
        reach = reading.reach(names)
        for name, source in reach.items():
            if name in sys.modules:
                _imported.setdefault(name, source.sha256)  # imported before anybody took notes, and before any function was loaded
        dropped = _drop(_stale(names, reach, reading))
        is_whole = False
        try:
            found = _import(names)
            is_whole = not any(isinstance(module, Exception) for module in found.values())
        finally:
            if not is_whole:
                _put(dropped)
        if not is_whole:
            return Taken("", None, found)
        have = {name: _imported.get(name, "") if name in sys.modules else source.sha256 for name, source in reach.items()}
        code = Code({name: (sys.modules[name], sha256) for name, sha256 in have.items() if name in sys.modules})
        digest = digest_of(have)
        _kept[digest] = code
        return Taken(digest, code, found)


def _record() -> None:
    if _RECORDER not in sys.meta_path:
        at = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
        sys.meta_path.insert(at, _RECORDER)


def _import(names: Iterable[str]) -> dict[str, ModuleType | Exception]:
    found: dict[str, ModuleType | Exception] = {}
    for name in names:
        try:
            found[name] = importlib.import_module(name)
        except Exception as error:  # a user's module may raise anything while it is imported
            found[name] = error
    return found


def _stale(names: Iterable[str], reach: Mapping[str, Source], reading: Reading) -> set[str]:
    """The modules to be imported anew."""
    loaded = {name for name in _imported if name in sys.modules}
    mentioned = {part for name in (*names, *(name for source in reach.values() for name in source.imports)) for part in within(name)}
    stale = {
        name
        for name in loaded & mentioned
        if (source := reach.get(name)) is None or (source.sha256 != _imported[name] and not source.is_compiled)
    }
    while stale and (more := {name for name in loaded - stale if _goes_with(name, stale, reading)}):
        stale |= more
    return stale


def _goes_with(name: str, stale: set[str], reading: Reading) -> bool:
    source = reading.source(name)
    if source is not None and source.is_compiled:
        return False
    if not stale.isdisjoint(within(name)) or any(other.startswith(f"{name}.") for other in stale):
        return True
    return source is not None and any(not stale.isdisjoint(within(imported)) for imported in source.imports)


def _drop(names: Iterable[str]) -> dict[str, tuple[ModuleType, str]]:
    return {name: (sys.modules.pop(name), _imported.pop(name)) for name in names}


def _put(modules: Mapping[str, tuple[ModuleType, str]]) -> None:
    for name, (module, sha256) in modules.items():
        sys.modules[name], _imported[name] = module, sha256
