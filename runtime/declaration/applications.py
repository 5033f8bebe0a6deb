"""What the applications of a file are to us: what each of them lacks, and what two of them must not share."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from runtime.declaration.complaints import Complaint, complaints
from runtime.declaration.declared import Declared
from runtime.declaration.grammar import FunctionPrefix, Name, Prefix, is_name
from runtime.declaration.place import Loc, render
from runtime.spec import ArgsSpec
from runtime.wording import near, shown

Role = Literal["function", "catalogue", "host", "other"]

OURS: Final[Mapping[str, Role]] = {
    "deployments:function": "function",
    "deployments:catalogue": "catalogue",
    "deployments:host": "host",
}
"""Builders of ours, by import path."""

_DEFAULTS: Final = {("other", "name"): "default", ("other", "route_prefix"): "/", ("catalogue", "route_prefix"): "/"}
"""What Ray takes where nothing is written and that is all right."""

OWN_ROUTES: Final = ("infer", "ready")
"""What a function answers below its prefix."""


@dataclass(frozen=True, slots=True)
class Application:
    """One entry of ``applications`` as written, and what it is to us."""

    index: int
    data: dict[str, Any]
    role: Role

    def at(self, *steps: str | int) -> Loc:
        """A place within it."""
        return ("applications", self.index, *steps)

    def get(self, key: str) -> str | None:
        """Its name or prefix; None if that is no text, as a prefix of null is (no HTTP), or is missing where it must not be."""
        value = self.data.get(key, _DEFAULTS.get((self.role, key)))
        return value if isinstance(value, str) else None


def applications(data: Any) -> list[Application]:
    """The entries that are mappings."""
    entries = data.get("applications") if isinstance(data, dict) else None
    entries = entries if isinstance(entries, list) else []
    return [
        Application(i, entry, OURS.get(str(entry.get("import_path")), "other"))
        for i, entry in enumerate(entries)
        if isinstance(entry, dict)
    ]


def faults(found: Iterable[Application], line: Callable[[Loc], int]) -> Iterator[Complaint]:
    """What is wrong with each application, and between them, beyond the names and kinds of Ray's keys."""
    for application in found:
        yield from _import_path(application)
        if application.role != "other":
            yield from _address(application)
            yield from _args(application)
    yield from _shared(found, line)
    yield from _covered(found, line)


class _FunctionAddress(Declared):
    name: Name
    route_prefix: FunctionPrefix


class _Address(Declared):
    name: Name
    route_prefix: Prefix = "/"


def _import_path(application: Application) -> Iterator[Complaint]:
    path = application.data.get("import_path")
    if application.role != "other" or not isinstance(path, str):
        return
    if meant := _misspelt(path):
        yield Complaint(application.at("import_path"), f"{shown(path)} is no builder of ours, did you mean {meant}?")
    elif not path.strip(":.") or not ("." in path or ":" in path):
        yield Complaint(application.at("import_path"), f"{shown(path)} is not package.module:attribute.")


def _misspelt(path: str) -> str | None:
    """The builder of ours that was meant; None for a module of the user's own, ``my_deployments`` among them."""
    module, _, attribute = path.replace(":", ".").partition(".")
    if module == "deployments":
        return f"deployments:{near(attribute, OURS.values()) or 'function'}"
    if "deployments" in path:
        return None
    close = difflib.get_close_matches(path, OURS, n=1, cutoff=0.85)
    return close[0] if close else None


def _address(application: Application) -> Iterator[Complaint]:
    address = {key: application.data[key] for key in ("name", "route_prefix") if key in application.data}
    if "name" not in address:
        yield Complaint(application.at("name"), f"missing. A {application.role} needs a name.")
        address["name"] = "NAME"
    if "route_prefix" not in address and application.role != "catalogue":
        below = f"/{address['name']}" if is_name(address["name"]) else "/NAME"
        prefix = "/v2/models" + (below if application.role == "function" else "")
        yield Complaint(application.at("route_prefix"), f"missing, and Ray's default is '/'. Write `route_prefix: {prefix}`.")
        address["route_prefix"] = "/v2/models/NAME"
    model = _FunctionAddress if application.role == "function" else _Address
    yield from _within(application.at(), complaints(model, address)[1])


def _args(application: Application) -> Iterator[Complaint]:
    args = application.data.get("args", {})
    if not isinstance(args, dict):
        return
    if application.role == "function":
        yield from _within(application.at("args"), complaints(ArgsSpec, args)[1])
    elif args:
        yield Complaint(application.at("args"), f"the {application.role} takes no args. Delete them.")


def _within(around: Loc, found: Iterable[Complaint]) -> Iterator[Complaint]:
    return (Complaint(around + complaint.loc, complaint.message) for complaint in found)


def _shared(found: Iterable[Application], line: Callable[[Loc], int]) -> Iterator[Complaint]:
    """Two applications with one name or one prefix; a second catalogue or host."""
    for key in ("name", "route_prefix"):
        first: dict[str, Application] = {}
        for application in found:
            value = application.get(key)
            if value is None:
                continue
            if value in first:
                other = first[value].at(key)
                where = f"{render(first[value].at())} on line {line(other)}"
                yield Complaint(application.at(key), f"{shown(value)} is also the {key} of {where}. Each application has its own.")
            first.setdefault(value, application)
    for role in ("catalogue", "host"):
        for again in [application for application in found if application.role == role][1:]:
            yield Complaint(again.at("import_path"), f"a second {role}. One is enough; delete it.")


def _covered(found: Iterable[Application], line: Callable[[Loc], int]) -> Iterator[Complaint]:
    """A prefix that is a route of a function's own: ``/a/infer`` where a function stands at ``/a``."""
    functions = {application.get("route_prefix"): application for application in found if application.role == "function"}
    for application in found:
        around, _, last = (application.get("route_prefix") or "").rpartition("/")
        if last in OWN_ROUTES and around in functions:
            other = functions[around]
            where = f"{render(other.at())} on line {line(other.at('route_prefix'))}"
            yield Complaint(
                application.at("route_prefix"), f"{shown(application.get('route_prefix'))} is a route of {where}. Write another."
            )
