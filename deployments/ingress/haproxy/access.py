"""Which key may do what, as HAProxy looks it up: three maps, decided from the keys and the prefixes
of functions; and the files of these maps, beside HAProxy's configuration.

    keys        DIGEST or CN=SUBJECT   flags|name|grant|until|a second|a minute|in flight
    grants      GRANT                  the functions' names, for the processes behind HAProxy
                GRANT:TARGET           1, if the grant has the target
    functions   PREFIX/                the target: a function, ``*``: another application,
                                       ``@SCOPE``: routes of ours, ``-``: nothing
                loaded                 1: the table has come

The flags are ``r`` (requests are limited) or ``.``, ``x`` (it expires) or ``.``, and the scopes by
their first letters.

A *grant* is a set of functions, by a hash of their names, and ``*`` is all. So keys that open the
same have one, and a key whose functions change has another at that moment, whichever of the maps
HAProxy has had first.

HAProxy looks up the longest prefix that a path is below, and that function in the grant: a key of
``/f`` does not open another function at ``/f/g``. It refuses an expired key by its own clock, so
that it does without a word from here.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from deployments.ingress.haproxy.rules import SCOPE_LETTERS

if TYPE_CHECKING:
    from runtime.declaration.access.keys import AccessKey

ALL: Final = "*"
"""The grant of all functions; and what is at a prefix that is no function's."""

NOTHING: Final = "-"
"""Where a prefix leads that is none: what is below it is there if a longer one is."""

CALLS: Final = "@call"
"""Routes that name the function in a body, which has to be one that the key opens."""

ROUTES: Final = MappingProxyType(
    {
        "/": "@look",
        "/v1": CALLS,
        "/v2": "@look",
        "/v2/models": NOTHING,
        "/v2/models/stats": "@look",
        "/v2/repository/models": "@operate",
        "/openapi.json": "@look",
        "/docs": "@look",
        "/console": "@look",
        "/metrics": "@look",
        "/functions": "@look",
        "/-": "@look",
    }
)
"""Routes of ours, and Ray's, by the scope that they take, and all that is below them: that they are
there is no secret, and what is not there is answered so.
"""

SUBJECT: Final = "CN="
"""Before the common name of a certificate: no digest begins so."""

LOADED: Final = "loaded"
"""Is in the map of functions from the first table on; no prefix is like it."""

NO_LIMIT: Final = 1_000_000_000

NEVER: Final = 99_999_999_999
"""Seconds since 1970."""

GRANT_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class AccessMaps:
    """The maps, each with its entries."""

    keys: Mapping[str, str]
    grants: Mapping[str, str]
    functions: Mapping[str, str]

    def to_dict(self) -> dict[str, dict[str, str]]:
        """As plain data, by the names of the maps."""
        return {name: dict(entries) for name, entries in self.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, str]]) -> AccessMaps:
        """Of what ``to_dict`` returned."""
        return cls(data["keys"], data["grants"], data["functions"])

    def items(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Each map's name and entries, in the order in which HAProxy is told: what a key opens
        before the key.
        """
        yield "functions", self.functions
        yield "grants", self.grants
        yield "keys", self.keys


def access_maps(keys: Iterable[AccessKey], prefixes: Mapping[str, str]) -> AccessMaps:
    """Return the maps.

    Args:
        keys: no two have a name, a digest or a subject in common.
        prefixes: of everything that is served, but the catalogue and the host: the function's name
            by its prefix; ``ALL`` for other applications, which only a key of all functions opens.
    """
    entries: dict[str, str] = {}
    every = ["", NOTHING, CALLS, *prefixes.values()]
    grants = {ALL: ALL, **{f"{ALL}:{target}": "1" for target in every}}
    for key in keys:
        grant = grant_of(key.functions)
        if key.functions is not None and grant not in grants:
            grants[grant] = ",".join(sorted(key.functions)) or "-"
            grants |= {f"{grant}:{target}": "1" for target in (CALLS, *key.functions)}
        entries |= dict(_entries(key, grant))
    functions = {f"{prefix}/": name for prefix, name in {**ROUTES, **prefixes}.items()}
    return AccessMaps(entries, grants, {**functions, LOADED: "1"})


def grant_of(functions: Iterable[str] | None) -> str:
    """Return the grant of a set of functions; of all for None."""
    if functions is None:
        return ALL
    names = ",".join(sorted(functions))
    return hashlib.sha256(names.encode()).hexdigest()[:GRANT_DIGITS]


def _entries(key: AccessKey, grant: str) -> Iterator[tuple[str, str]]:
    for digest in key.digests:
        yield digest.sha256.upper(), _value(key, grant, digest.until)
    if key.subject:
        yield f"{SUBJECT}{key.subject}", _value(key, grant, None)


def _value(key: AccessKey, grant: str, until: float | None) -> str:
    ends = min(NEVER if at is None else max(0, math.floor(at)) for at in (until, key.expires_at))
    limits = (*rate_limits(key.rps), NO_LIMIT if key.in_flight is None else key.in_flight)
    flags = "".join(
        [
            "." if all(limit == NO_LIMIT for limit in limits) else "r",
            "." if ends == NEVER else "x",
            *(letter for scope, letter in SCOPE_LETTERS.items() if scope in key.scopes),
        ]
    )
    return "|".join(map(str, (flags, key.name, grant, ends, *limits)))


def rate_limits(rps: float | None) -> tuple[int, int]:
    """Return how many requests a second, and how many a minute: HAProxy counts whole ones, so a
    rate that is none, such as 2.5, is kept in the minute.
    """
    if rps is None:
        return NO_LIMIT, NO_LIMIT
    a_second = math.ceil(rps)
    return a_second, NO_LIMIT if a_second == rps else max(1, math.floor(rps * 60))


def write_map(entries: Mapping[str, str]) -> str:
    """Return the text of a map's file: a line for each entry."""
    return "".join(f"{key} {value}\n" for key, value in entries.items())


def map_name(name: str) -> str:
    """Return what HAProxy calls a map, which is the name of its file."""
    return f"{name}.map"


def write_files(folder: Path, maps: AccessMaps) -> None:
    """Write the maps for a HAProxy that starts; each is there whole or not at all."""
    for name, entries in maps.items():
        draft = folder / f".{map_name(name)}.new"
        write_private(draft, write_map(entries))
        draft.replace(folder / map_name(name))


def make_files(folder: Path) -> None:
    """Write maps without an entry where there are none: HAProxy does not start without the files,
    and refuses every call until the keys come.
    """
    for name, _ in AccessMaps({}, {}, {}).items():
        if not (folder / map_name(name)).exists():
            write_private(folder / map_name(name), "")


def write_private(file: Path, text: str) -> None:
    """Write a file anew that this user alone reads, whatever is at its place: keys are in it, or
    secrets by which processes know each other.
    """
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
