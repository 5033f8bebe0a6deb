"""A function as ``wakeful up`` declares it to the placement controller and to the hosts.

It lies as JSON in Ray's configuration of both, and in the state folder, where another version of
Wakeful may find it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

from runtime.declaration.function_spec import FunctionSpec, hash_of
from runtime.types.json_schemas import InterfaceDescription

FORMER_KEYS: Final = {"fixed": "is_always_own", "identity": "version", "probed": "is_probed"}
"""Keys of the release before this one. Ray starts a host or a catalogue that died again with the
configuration that it has, and with the code that is installed by then: between the installation of
this release and the `wakeful up` after it. They go with the next release.
"""

RARE: Final = ("interface", "also_at")
"""Fields that most declarations do not have."""


@dataclass(frozen=True)
class FunctionDeclaration:
    """A declared function.

    Attributes:
        name: its name, and the name of its application.
        url: its route prefix.
        args: its declaration as it was sent, secrets as marks.
        is_always_own: it has a deployment of its own from the start and for good.
        version: its version hash.
        memory_bytes: what the probe measured; 0 when it did not.
        is_probed: the probe has loaded it.
        part_of: the function whose stage it is; empty for a function of the file.
        interface: what it takes and answers, for the catalogue's OpenAPI; None: it is not known.
        also_at: other prefixes where it may be, while an update moves it.
    """

    name: str
    url: str
    args: Mapping[str, Any]
    is_always_own: bool
    version: str
    memory_bytes: int = 0
    is_probed: bool = False
    part_of: str = ""
    interface: InterfaceDescription | None = None
    also_at: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FunctionDeclaration:
        """Return what ``to_dict`` was made from; keys of a later version are ignored."""
        found = {FORMER_KEYS.get(key, key): value for key, value in data.items()}
        known = {one.name: found[one.name] for one in fields(cls) if one.name in found}
        return cls(**{**known, "also_at": tuple(known.get("also_at", ()))})

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data with the names of the fields; what is as it usually is stays out."""
        data = {one.name: getattr(self, one.name) for one in fields(self)}
        data["also_at"] = list(self.also_at)
        return {key: value for key, value in data.items() if value or key not in RARE}

    def __getstate__(self) -> dict[str, Any]:
        """Without what was parsed here: the process that gets it parses what it uses."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def spec(self) -> FunctionSpec:
        """The parsed declaration. Parsed at first use: most functions of a large file sleep."""
        return FunctionSpec.from_args(self.name, self.url, self.args)

    @cached_property
    def hash(self) -> str:
        """A short hash of the prefix and the declaration, code and models included: with another
        one the function is declared again. Equal in every process that got the same message.
        """
        return hash_of([self.url, self.args])


def hash_declarations(declarations: Iterable[FunctionDeclaration]) -> str:
    """A short hash of several declared functions, in any order."""
    return hash_of(sorted((declaration.name, declaration.hash) for declaration in declarations))
