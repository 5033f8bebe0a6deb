"""A file's secrets on their way to a cluster: the declaration gets their marks, Ray's head the values, no environment either of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from runtime.declaration.references import names
from runtime.secrets import Secrets, marks
from runtime.specfile import ServeFile

EVERYBODYS: Final = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "PWD", "PYTHONPATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"})
"""Variables that every process has, whether a declaration names them or not."""


def seal(file: ServeFile, secrets: Secrets, key: bytes) -> tuple[ServeFile, dict[str, str]]:
    """The file with the marks of what its functions name, and the values by mark; what is not known stays without.

    Args:
        secrets: of this process; it knows the values by mark afterwards, too.
    """
    carried: dict[str, str] = {}
    functions = []
    for spec in file.functions:
        by_name, values = marks(secrets.find, names(stage.with_ for stage in spec.graph), key)
        carried |= values
        functions.append(spec.model_copy(update={"secrets": by_name}) if by_name else spec)
    secrets.learn(carried)
    return replace(file, functions=tuple(functions)), carried


def withhold(file: ServeFile) -> None:
    """Takes what the file names out of this process's environment, so that no process of a cluster inherits it from here."""
    for name in set(names(stage.with_ for spec in file.functions for stage in spec.graph)) - EVERYBODYS:
        os.environ.pop(name, None)


def marks_of(applications: Iterable[Mapping[str, Any]]) -> list[str]:
    """The marks in declarations of functions, wherever in the arguments of applications these stand."""
    return sorted({mark for application in applications for mark in _marks(application.get("args"))})


def _marks(args: Any) -> Iterable[str]:
    if isinstance(args, Mapping):
        for key, value in args.items():
            yield from value.values() if key == "secrets" and isinstance(value, Mapping) else _marks(value)
    elif isinstance(args, list):
        for value in args:
            yield from _marks(value)
