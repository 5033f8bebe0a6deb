"""The whole form of a file: what Wakeful supplies where a file leaves it out, so that three lines
declare a function. Pure functions from plain data to plain data, which refuse nothing.

Of an application ``import_path`` (a function's) and ``route_prefix`` are supplied; and, behind the
applications of a file that has functions, the catalogue and the host:

| the file names | supplied |
|---|---|
| neither | both |
| the host alone | the catalogue, which owns placement |
| the catalogue alone | none: without a host each function has a deployment of its own |

A catalogue or a host is not supplied where another application has its prefix, and without a
catalogue there is no host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal

from runtime.declaration.constrained_types import is_name
from runtime.declaration.ray_schema import Application
from runtime.system.messages import closest_match

Role = Literal["function", "catalogue", "host", "other"]

IMPORT_PATHS: Final[Mapping[Role, str]] = {
    "function": "deployments:function",
    "catalogue": "deployments:catalogue",
    "host": "deployments:host",
}
"""Wakeful's builders, by role."""

ROLES: Final[Mapping[str, Role]] = {path: role for role, path in IMPORT_PATHS.items()}
"""Roles of Wakeful's builders, by import path."""

PREFIXES: Final[Mapping[Role, str]] = {
    "function": "/v2/models/NAME",
    "catalogue": "/",
    "host": "/v2/models",
    "other": "/",
}
"""Where an application is called that does not say it; of ``other`` it is Ray's default, which is
not supplied.
"""

_MOST_KEYS: Final = 16
"""Keys of an application in which a misspelt ``import_path`` is looked for: Ray knows nine."""


def complete(data: Any) -> Any:
    """The data of a file in its whole form, Ray's own; its applications keep their positions. Data
    of another kind is returned as it is.
    """
    entries = data.get("applications") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        return data
    applications = [
        _complete_application(entry) if isinstance(entry, dict) and entry else entry
        for entry in entries
    ]
    return {**data, "applications": [*applications, *_supplied(applications)]}


def role_of(application: Mapping[str, Any]) -> Role:
    """What an application is to Wakeful."""
    return ROLES.get(str(application.get("import_path")), "other")


def _complete_application(written: dict[str, Any]) -> dict[str, Any]:
    whole = dict(written)
    if not any(map(_is_import_path, islice(written, _MOST_KEYS))):
        whole["import_path"] = IMPORT_PATHS["function"]
    role = role_of(whole)
    if role != "other":
        name = str(whole.get("name"))
        prefix = PREFIXES[role].replace("NAME", name if is_name(name) else "NAME")
        whole.setdefault("route_prefix", prefix)
    return whole


def _is_import_path(key: str) -> bool:
    """Whether a key is ``import_path``, or was probably meant to be."""
    return key == "import_path" or (
        key not in Application.model_fields and closest_match(key, ("import_path",)) is not None
    )


def _supplied(applications: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The catalogue and the host that a file leaves to Wakeful."""
    named = [application for application in applications if isinstance(application, dict)]
    roles = {role_of(application) for application in named}
    prefixes = [application.get("route_prefix", PREFIXES["other"]) for application in named]
    if "function" not in roles or "catalogue" in roles or PREFIXES["catalogue"] in prefixes:
        return
    yield _supply("catalogue", named)
    if "host" not in roles and PREFIXES["host"] not in prefixes:
        yield _supply("host", named)


def _supply(role: Role, named: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """That application, under a name that the file does not use."""
    is_taken = any(application.get("name") == role for application in named)
    return {
        "name": f"wakeful-{role}" if is_taken else role,
        "route_prefix": PREFIXES[role],
        "import_path": IMPORT_PATHS[role],
    }
