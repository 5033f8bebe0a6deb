"""Whether another machine would answer as this one: it has the models, the files and the modules that the functions consist of.

Names are as declared, or a module's, since a machine may have its folders elsewhere; each finds them by its own settings. Installed
packages are not compared: Ray itself refuses a machine of another Ray or another Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from runtime.errors import StoreError, WakefulError
from runtime.given import given_files, stage_modules
from runtime.modules import Reading
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.specfile import ServeFile
from runtime.store.digests import sha256_as_of
from runtime.store.sources import parse, resolve

KEY: Final = "wakeful-digests"
"""Under which the head of a cluster keeps what machines that join have to have: their ``digests``, and where HTTP is served."""

Digests = dict[str, str]
"""SHA-256 by name, a model's or file's path or a module of the project; empty where it is not there."""


class Unlike(WakefulError):
    """This machine would answer otherwise than the others: a model, a file or a stage's code is not the same."""

    code = "unlike"
    fault = "operator"


def named(functions: Iterable[FunctionSpec], settings: Settings) -> list[str]:
    """What the functions consist of and could differ: files below the root, modules of ``python:`` stages, and what these import of the
    project's."""
    names: dict[str, None] = {}
    reading = Reading()
    for spec in functions:
        modules = stage_modules(spec)
        names |= dict.fromkeys((*modules, *(name for name, source in reading.reach(modules).items() if source.file is not None)))
        for stage in spec.graph:
            if stage.onnx is not None and isinstance(parse(stage.onnx), Path):  # what is fetched lies under its digest
                names[stage.onnx] = None
        names |= dict.fromkeys(value for value, _ in given_files(spec, settings.root))
    return list(names)


def digests(names: Iterable[str], settings: Settings) -> Digests:
    """Of each name, what this machine has."""
    reading = Reading()
    return {name: _digest(name, settings, reading) for name in names}


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
    def digest(source: str) -> str:
        return sha256_as_of(resolve(source, None, settings.models, settings.root, fetch=False), settings.models)

    graph = tuple(
        stage.model_copy(update={"sha256": digest(stage.onnx)}) if stage.onnx is not None and stage.sha256 is None else stage
        for stage in spec.graph
    )
    return spec.model_copy(update={"graph": graph})


def _digest(name: str, settings: Settings, reading: Reading) -> str:
    """Of the file of that path, or of a module; a package is its ``__init__``."""
    try:
        return sha256_as_of(resolve(name, None, settings.models, settings.root, fetch=False), settings.models)
    except StoreError:
        pass
    if (settings.root / name).is_file():  # which may lie outside of the root, as a model may not
        return sha256_as_of(settings.root / name, settings.models)
    source = reading.source(name)
    return source.sha256 if source is not None else ""
