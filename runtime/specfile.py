"""A ``serve_config.yaml`` as checked declarations, or everything that is wrong with it, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from runtime.declaration.applications import Application, Role, applications, faults
from runtime.declaration.complaints import Complaint, complaints
from runtime.declaration.compose import MAX_PROBLEMS
from runtime.declaration.place import Loc, render
from runtime.declaration.rayschema import HttpOptions, ServeConfig
from runtime.declaration.yamlfile import Document
from runtime.declaration.yamlfile import read as read_yaml
from runtime.errors import DeclarationError, Problem
from runtime.spec import FunctionSpec


@dataclass(frozen=True, slots=True)
class ServeFile:
    """A file that was read and is right, as far as can be told without importing stages or opening models.

    Attributes:
        path: the file as the user named it.
        functions: what ``deployments:function`` declares, in file order.
        http: where HTTP is served.
        catalogue: the application of ``deployments:catalogue``, as in ``raw``; None if there is none.
        host: the application of ``deployments:host``, likewise.
        others: applications that are not ours, as in ``raw``.
        raw: the whole file as plain data, Ray's ``ServeDeploySchema``.
    """

    path: Path
    functions: tuple[FunctionSpec, ...]
    http: HttpOptions
    catalogue: dict[str, Any] | None
    host: dict[str, Any] | None
    others: tuple[dict[str, Any], ...]
    raw: dict[str, Any]
    document: Document
    positions: Mapping[str, int]

    @property
    def http_host(self) -> str:
        """Address listened on."""
        return self.http.host

    @property
    def http_port(self) -> int:
        """Port listened on."""
        return self.http.port

    def locate(self, key: str) -> tuple[str, int]:
        """File and line of a key, or of the nearest key around it that stands in the file."""
        return self.document.file, self.document.line(key)

    def problem(self, key: str, message: str) -> Problem:
        """A problem at that key, for checks that come after reading."""
        return Problem(*self.locate(key), key, message)

    def key_of(self, name: str) -> str:
        """A function's key in the file: ``applications[2]``.

        Raises:
            KeyError: no function of that name.
        """
        return render(("applications", self.positions[name]))

    def stage_key(self, name: str, stage: int | None) -> str:
        """The key that holds a function's stage: ``applications[2].args.graph[1]``, or ``….args`` of a bare model and for None."""
        args = self.raw["applications"][self.positions[name]]["args"]
        return f"{self.key_of(name)}.args" + (f".graph[{stage}]" if "graph" in args and stage is not None else "")


def read(path: Path | str) -> ServeFile:
    """The declarations of a file. Nothing is executed or imported.

    Raises:
        DeclarationError: with every problem of the file, in its order; at most ``MAX_PROBLEMS``.
    """
    document = read_yaml(path)
    if document.data is None:
        raise DeclarationError([Problem(document.file, 1, "", "the file is empty. It needs `applications:`."), *document.problems])
    found = applications(document.data)

    def line(loc: Loc) -> int:
        return document.line(render(loc))

    config, complained = complaints(ServeConfig, document.data)
    problems = _problems(document, chain(complained, faults(found, line)))
    if problems or config is None:
        raise DeclarationError(problems)
    return ServeFile(
        path=Path(path),
        functions=tuple(_function(application) for application in found if application.role == "function"),
        http=config.http_options,
        catalogue=next(iter(_of(found, "catalogue")), None),
        host=next(iter(_of(found, "host")), None),
        others=tuple(_of(found, "other")),
        raw=document.data,
        document=document,
        positions={application.data["name"]: application.index for application in found if application.role == "function"},
    )


def _of(found: Iterable[Application], role: Role) -> list[dict[str, Any]]:
    return [application.data for application in found if application.role == role]


def _function(application: Application) -> FunctionSpec:
    data = application.data
    return FunctionSpec.from_args(data["name"], data["route_prefix"], data.get("args", {}))


def _problems(document: Document, complained: Iterable[Complaint]) -> list[Problem]:
    """What YAML said and what was complained of, once a place and in file order."""
    problems = list(document.problems)
    said = {problem.key for problem in problems if problem.key}
    for complaint in islice(complained, MAX_PROBLEMS):
        place = render(complaint.loc)
        if place not in said:
            problems.append(Problem(document.file, document.line(place), place, complaint.message))
        said.add(place)
    return sorted(problems, key=lambda problem: problem.line)
