"""A function as ``wakeful up`` declares it to the placement controller and to the hosts, and lists
of such functions.

It lies as JSON in Ray's configuration of both, and in the state folder, where another version of
Wakeful may find it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from runtime.declaration.function_spec import (
    DEPLOYED,
    FunctionSpec,
    hash_of,
    unpack_args,
)
from runtime.types.json_schemas import InterfaceDescription

if TYPE_CHECKING:
    from runtime.graph.description.explained import ExplainedFunction

FORMER_KEYS: Final = {"fixed": "is_always_own", "identity": "version", "probed": "is_probed"}
"""Keys of the release before this one. Ray starts a host or a catalogue that died again with the
configuration that it has, and with the code that is installed by then: between the installation of
this release and the `wakeful up` after it. They go with the next release.
"""

FORMER_ADDED: Final = frozenset({"calls", "part_of", "secrets", "made_of"})
"""Keys of ``args`` in that release that are those of ``DeployedFacts`` now."""

RARE: Final = ("interface", "explained", "also_at")
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
        explained: its graph, and where its settings come from, for the console; None: likewise.
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
    explained: ExplainedFunction | None = None
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

    @property
    def secrets(self) -> Mapping[str, str]:
        """The marks of its secrets by their names, without parsing the declaration."""
        found: Mapping[str, str] = self.args.get(DEPLOYED, {}).get("secrets", {})
        return found

    @cached_property
    def hash(self) -> str:
        """A short hash of the prefix and the declaration, code and models included: with another
        one the function is declared again. Equal in every process that got the same message.
        """
        return hash_of([self.url, self.args])


LIST_KEYS: Final = ("functions", "declarations")
"""The keys of a list of functions."""


def pack_functions(functions: Iterable[FunctionDeclaration]) -> dict[str, Any]:
    """Return a list of functions as JSON data: ``functions``, and by digest the ``declarations`` of
    those that they call, each once.
    """
    packed: list[dict[str, Any]] = []
    declarations: dict[str, Any] = {}
    for function in functions:
        args = dict(function.args)
        if DEPLOYED in args:
            args[DEPLOYED] = dict(args[DEPLOYED])
            declarations.update(args[DEPLOYED].pop("declarations", {}))
        packed.append(replace(function, args=args).to_dict())
    return {"functions": packed, "declarations": declarations}


def unpack_functions(data: Mapping[str, Any] | list[Any]) -> tuple[FunctionDeclaration, ...]:
    """Return what ``pack_functions`` was given; what is missing is empty."""
    if isinstance(data, list):  # of the release before this one
        data = {"functions": data}
    declarations = data.get("declarations", {})
    functions = [
        {**one, "args": unpack_args(current_args(one["args"]), declarations)}
        for one in data.get("functions", ())
    ]
    return tuple(map(FunctionDeclaration.from_dict, functions))


def current_args(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a function, which may be of the release before this one: it had what
    commands add among the other keys, and within that whole functions where there are digests now.
    Like ``FORMER_KEYS`` this goes with the next release.
    """
    if FORMER_ADDED.isdisjoint(args):
        return args
    declarations: dict[str, Any] = {}

    def converted(former: Mapping[str, Any]) -> dict[str, Any]:
        calls: dict[str, Any] = {}
        for name, callee in former.get("calls", {}).items():
            known = converted(callee["args"])
            digest = hash_of(known)
            declarations[digest] = known
            calls[name] = {
                **{key: callee[key] for key in callee if key != "args"},
                "digest": digest,
            }
        added = {key: former[key] for key in FORMER_ADDED if key in former}
        declared = {key: value for key, value in former.items() if key not in FORMER_ADDED}
        return {**declared, DEPLOYED: {"part_of": "", **added, "calls": calls}}

    found = converted(args)
    found[DEPLOYED]["declarations"] = declarations
    return found


def hash_declarations(declarations: Iterable[FunctionDeclaration]) -> str:
    """A short hash of several declared functions, in any order."""
    return hash_of(sorted((declaration.name, declaration.hash) for declaration in declarations))
