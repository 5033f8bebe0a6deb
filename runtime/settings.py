"""What the machine decides, not the declaration: the only reader of the environment."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.errors import DeclarationError, Problem
from runtime.wording import near, shown

PREFIX: Final = "WAKEFUL_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable, as its reference page describes it.

    Attributes:
        wanted: what its value is, in words.
        default: what holds without it, in words.
        reason: what it is for, and why the default is what it is.
        read: text to value; raises ``ValueError`` for a wrong one.
    """

    wanted: str
    default: str
    reason: str
    read: Callable[[str], Any]


def _folder(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("not a folder")
    return Path.cwd() / text


def _existing_folder(text: str) -> Path:
    folder = _folder(text)
    if not folder.is_dir():
        raise ValueError("no such folder")
    return folder


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", text):
        raise ValueError("not an address")
    return text


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= port <= 65535:
        raise ValueError("not a port")
    return port


def _factor(text: str) -> float:
    factor = float(text)
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError("not above 0")
    return factor


SETTINGS: Final[Mapping[str, Setting]] = {
    "root": Setting(
        "a folder that exists",
        "the working folder",
        "Where the relative paths of declarations start. The working folder, as for every other command.",
        _existing_folder,
    ),
    "models": Setting(
        "a folder",
        "`models` in the root folder",
        "Where `wakeful models pull` puts models and the runtime finds them. Beside the declarations, so that one folder can be moved.",
        _folder,
    ),
    "host": Setting(
        "an address",
        "`http_options.host` of the file",
        "Address listened on, over the file's, for a machine whose address the file cannot know.",
        _host,
    ),
    "port": Setting(
        "an integer from 1 to 65535",
        "`http_options.port` of the file",
        "Port listened on, over the file's, for a machine on which that is taken.",
        _port,
    ),
    "cpus_per_core": Setting(
        "a number above 0",
        "4",
        "Logical CPUs that `wakeful up` gives Ray for each core of this machine. 4: a few functions that are awake at once share the "
        "cores, and none waits for another to sleep. On a cluster the nodes' own numbers hold.",
        _factor,
    ),
}
"""Every setting by its field of ``Settings``."""

VARIABLES: Final[Mapping[str, str]] = {
    f"{PREFIX}{'LOGICAL_CPUS_PER_CORE' if field == 'cpus_per_core' else field.upper()}": field for field in SETTINGS
}
"""Field by environment variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of this process; read once, at the top, and passed on.

    Attributes:
        root: absolute folder that relative paths of declarations start from.
        models: absolute folder of pulled models.
        host: address listened on; None leaves it to the file.
        port: port listened on; None leaves it to the file.
        cpus_per_core: logical CPUs for each core of this machine.
        given: fields that the environment set, for those who show where a value comes from.
    """

    root: Path
    models: Path
    host: str | None = None
    port: int | None = None
    cpus_per_core: float = 4.0
    given: frozenset[str] = frozenset()

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of an environment, by default this process's.

        Raises:
            DeclarationError: with every variable that is unknown or has a wrong value.
        """
        environ = os.environ if environ is None else environ
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        for variable in sorted(name for name in environ if name.startswith(PREFIX)):
            field = VARIABLES.get(variable)
            if field is None:
                problems.append(Problem("environment", 0, variable, _unknown(variable)))
                continue
            try:
                values[field] = SETTINGS[field].read(environ[variable])
            except ValueError:
                message = f"{shown(environ[variable])} is given, {SETTINGS[field].wanted} is wanted."
                problems.append(Problem("environment", 0, variable, message))
        if problems:
            raise DeclarationError(problems)
        root = values.get("root", Path.cwd())
        return cls(**{"root": root, "models": root / "models", **values}, given=frozenset(values))


def _unknown(variable: str) -> str:
    """Compared without the prefix, which would make every two of them alike."""
    rest = {name.removeprefix(PREFIX): name for name in VARIABLES}
    meant = near(variable.removeprefix(PREFIX), rest)
    return f"unknown variable, did you mean {rest[meant]}?" if meant else f"unknown variable; known are {', '.join(VARIABLES)}."
