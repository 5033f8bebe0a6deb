"""Whether another machine would answer as this one: it has the same models, files and stage code that the functions name.

Names are as declared, since a machine may have its folders elsewhere; each finds them by its own settings. What installed packages say
is not compared: Ray itself refuses a machine of another Ray or another Python.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from runtime.errors import StoreError, WakefulError
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.specfile import ServeFile
from runtime.store.files import sha256_of
from runtime.store.sources import parse, resolve

KEY: Final = "wakeful-digests"
"""Under which the head of a cluster keeps what machines that join have to have: their ``digests``, and where HTTP is served."""

Digests = dict[str, str]
"""SHA-256 by declared name, a model's or file's path or a stage's module; empty where it is not there."""


class Unlike(WakefulError):
    """This machine would answer otherwise than the others: a model, a file or a stage's code is not the same."""

    code = "unlike"
    fault = "operator"


def named(functions: Iterable[FunctionSpec], settings: Settings) -> list[str]:
    """What the functions name and could differ: files below the root, and ``python:`` modules."""
    names: dict[str, None] = {}
    for stage in (stage for spec in functions for stage in spec.graph):
        if stage.python is not None:
            names[stage.python.partition(":")[0]] = None
        if stage.onnx is not None and isinstance(parse(stage.onnx), Path):  # what is fetched lies under its digest
            names[stage.onnx] = None
        names |= dict.fromkeys(value for value in stage.with_.values() if isinstance(value, str) and (settings.root / value).is_file())
    return list(names)


def digests(names: Iterable[str], settings: Settings) -> Digests:
    """Of each name, what this machine has."""
    return {name: sha256_of(file) if (file := _file(name, settings)) else "" for name in names}


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What is not the same there, in words."""
    return [
        f"{name} {'differs' if there.get(name) else 'is not there'}"
        for name, digest in sorted(here.items())
        if there.get(name, "") != digest
    ]


def advice(machine: str, found: Iterable[str]) -> str:
    """A message about a machine that is not like the others."""
    return (
        f"{machine} would not answer as the others: {'; '.join(found)}. Run `wakeful models pull` there with the same models.lock, "
        "or let the machines share the folder; a model that was built there may differ in its last digits, and has to be copied."
    )


def pinned(file: ServeFile, settings: Settings) -> ServeFile:
    """The file with the digest of each local model written into it, so that wherever a function is loaded, it is that model or none.

    Raises:
        StoreError: a model is not there.
    """
    return replace(file, functions=tuple(_pinned(spec, settings) for spec in file.functions))


def _pinned(spec: FunctionSpec, settings: Settings) -> FunctionSpec:
    graph = tuple(
        stage.model_copy(update={"sha256": sha256_of(resolve(stage.onnx, None, settings.models, settings.root, fetch=False))})
        if stage.onnx is not None and stage.sha256 is None
        else stage
        for stage in spec.graph
    )
    return spec.model_copy(update={"graph": graph})


def _file(name: str, settings: Settings) -> Path | None:
    """The file of a path, or of a module; a package is its ``__init__``."""
    if (settings.root / name).is_file():
        return settings.root / name
    try:
        return resolve(name, None, settings.models, settings.root, fetch=False)
    except StoreError:
        pass
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found and found.origin and Path(found.origin).is_file() else None
