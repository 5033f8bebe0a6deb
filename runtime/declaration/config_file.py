"""Reads a ``serve_config.yaml`` into declarations, or raises everything that is wrong with it, each
problem with its line: what its applications lack, and what two of them must not share. What the
file leaves to Wakeful is supplied before anything is checked (``whole_form``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from runtime.declaration.constrained_types import FunctionPrefix, Name, Prefix
from runtime.declaration.declared_spec import DeclaredSpec, FunctionArgs
from runtime.declaration.editing.whole_form import ROLES, Role, complete, role_of
from runtime.declaration.http_section import AuthSpec, CorsSpec, TlsSpec
from runtime.declaration.ray_schema import HttpOptions, ServeConfig
from runtime.declaration.validation import (
    KeyPath,
    StrictModel,
    ValidationIssue,
    format_path,
    validate_all,
)
from runtime.declaration.yaml_reader import MAX_PROBLEMS, Document
from runtime.declaration.yaml_reader import read as read_yaml
from runtime.errors import DeclarationError, Problem
from runtime.system.messages import closest_match, did_you_mean, quote


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that is right, as far as can be known without importing stages or opening models. It
    is never changed: ``graph.resolve`` says what it comes to.

    Attributes:
        path: the file as the user named it.
        functions: what ``deployments:function`` declares, in file order.
        http: where HTTP is served.
        cors: the pages of other origins that may call; None: there are none.
        auth: the keys that calls carry; None: the file does not ask for any.
        tls: of the public port, by whichever keys it is declared; None: there is none.
        connections_per_address: that HAProxy takes at once; None: the file does not say.
        has_console: whether there is a console.
        catalogue: the application of ``deployments:catalogue``, as in ``raw``, the file's or
            supplied; None if there is none.
        host: the application of ``deployments:host``, likewise.
        others: applications that are not ours, as in ``raw``.
        raw: the file in its whole form, as plain data: Ray's ``ServeDeploySchema``.
        document: the YAML as written, with its lines.
        positions: the index of each function among the applications of the file, by name.
    """

    path: Path
    functions: tuple[DeclaredSpec, ...]
    http: HttpOptions
    cors: CorsSpec | None
    auth: AuthSpec | None
    tls: TlsSpec | None
    connections_per_address: int | None
    has_console: bool
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
        """File and line of a key, or of the nearest enclosing key that the file has."""
        return self.document.file, self.document.line(key)

    def problem(self, key: str, message: str) -> Problem:
        """A problem at that key, for checks that come after reading."""
        return Problem(*self.locate(key), key, message)

    def key_of(self, name: str) -> str:
        """A function's key in the file: ``applications[2]``.

        Raises:
            KeyError: no function of that name.
        """
        return format_path(("applications", self.positions[name]))

    def stage_key(self, name: str, stage: int | None) -> str:
        """The key of a function's stage: ``applications[2].args.graph[1]``, or
        ``applications[2].args`` for a bare model and for None.
        """
        args = self.raw["applications"][self.positions[name]]["args"]
        return f"{self.key_of(name)}.args" + (
            f".graph[{stage}]" if "graph" in args and stage is not None else ""
        )


def read(path: Path | str) -> ConfigFile:
    """The declarations of a file. Nothing is executed or imported.

    Raises:
        DeclarationError: with every problem of the file, in its order; at most ``MAX_PROBLEMS``.
    """
    document = read_yaml(path)
    if document.data is None:
        raise DeclarationError(
            [
                Problem(document.file, 1, "", "the file is empty. It needs `applications:`."),
                *document.problems,
            ]
        )
    data = complete(document.data)
    found = read_applications(data)

    def line(loc: KeyPath) -> int:
        return document.line(format_path(loc))

    config, issues = validate_all(ServeConfig, data)
    more = chain(
        find_application_issues(found, line), find_key_issues(data, found), find_tls_issues(data)
    )
    problems = _problems(document, chain(issues, more))
    if problems or config is None:
        raise DeclarationError(problems)
    return ConfigFile(
        path=Path(path),
        http=config.http_options,
        cors=config.http.cors if config.http is not None else None,
        auth=config.http.auth if config.http is not None else None,
        tls=config.http.tls if config.http and config.http.tls else config.http_options.tls,
        connections_per_address=config.http.connections_per_address if config.http else None,
        has_console=config.http is None or config.http.console,
        catalogue=next(iter(_of(found, "catalogue")), None),
        host=next(iter(_of(found, "host")), None),
        others=tuple(_of(found, "other")),
        raw=data,
        document=document,
        positions={
            application.data["name"]: application.index
            for application in found
            if application.role == "function"
        },
        functions=tuple(
            _function(application) for application in found if application.role == "function"
        ),
    )


def _of(found: Iterable[ApplicationEntry], role: Role) -> list[dict[str, Any]]:
    return [application.data for application in found if application.role == role]


def _function(application: ApplicationEntry) -> DeclaredSpec:
    assert application.declared is not None  # the file is right
    data = application.data
    return DeclaredSpec.from_checked(data["name"], data["route_prefix"], application.declared)


def _problems(document: Document, issues: Iterable[ValidationIssue]) -> list[Problem]:
    """The problems of the YAML and those of its values, one for each key, in file order."""
    problems = list(document.problems)
    said = {problem.key for problem in problems if problem.key}
    for complaint in islice(issues, MAX_PROBLEMS):
        place = format_path(complaint.path)
        if place not in said:
            problems.append(Problem(document.file, document.line(place), place, complaint.message))
        said.add(place)
    return sorted(problems, key=lambda problem: problem.line)


_DEFAULTS: Final = {
    ("other", "name"): "default",
    ("other", "route_prefix"): "/",
}
"""Defaults of Ray that Wakeful accepts."""

OWN_ROUTES: Final = ("infer", "ready", "config", "stats")
"""Routes that a function answers below its prefix."""


@dataclass(frozen=True, slots=True)
class ApplicationEntry:
    """One entry of ``applications`` as written, and its role.

    Attributes:
        declared: a function's ``args``; None where they are wrong.
        args_issues: what is wrong with ``args``.
    """

    index: int
    data: dict[str, Any]
    role: Role
    declared: FunctionArgs | None = None
    args_issues: tuple[ValidationIssue, ...] = ()

    def key_path(self, *steps: str | int) -> KeyPath:
        """The path of a key within it."""
        return ("applications", self.index, *steps)

    def get(self, key: str) -> str | None:
        """Its name or prefix; None if that is not text, such as a prefix of null (no HTTP), or is
        missing where it must not be.
        """
        value = self.data.get(key, _DEFAULTS.get((self.role, key)))
        return value if isinstance(value, str) else None


def read_applications(data: Any) -> list[ApplicationEntry]:
    """The entries of a file that are mappings. The ``args`` of functions are read here, once; after
    ``MAX_PROBLEMS`` issues no more of them are.
    """
    entries = data.get("applications") if isinstance(data, dict) else None
    entries = entries if isinstance(entries, list) else []
    found: list[ApplicationEntry] = []
    count = 0
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        role = role_of(entry)
        declared, issues = _read_args(role, entry) if count < MAX_PROBLEMS else (None, [])
        count += len(issues)
        found.append(ApplicationEntry(index, entry, role, declared, tuple(issues)))
    return found


def _read_args(
    role: Role, data: Mapping[str, Any]
) -> tuple[FunctionArgs | None, list[ValidationIssue]]:
    """The ``args`` of an application, if they are a function's, and what is wrong with them."""
    args = data.get("args", {})
    is_beside = not args and not {"graph", "onnx", "model"}.isdisjoint(data)  # said there
    if role == "other" or not isinstance(args, dict) or is_beside:
        return None, []
    if role == "function":
        return validate_all(FunctionArgs, args)
    return None, [ValidationIssue((), f"the {role} takes no args. Delete them.")] if args else []


def find_application_issues(
    found: Iterable[ApplicationEntry], line: Callable[[KeyPath], int]
) -> Iterator[ValidationIssue]:
    """What is wrong with each application, and between them, beyond the names and kinds of Ray's
    keys.
    """
    for application in found:
        yield from _import_path_issues(application)
        if application.role != "other":
            yield from _address_issues(application)
            yield from _within(application.key_path("args"), application.args_issues)
    yield from _shared_address_issues(found, line)
    yield from _covered_prefix_issues(found, line)


def find_key_issues(data: Any, found: Iterable[ApplicationEntry]) -> Iterator[ValidationIssue]:
    """Functions that keys name and the file does not have."""
    names = [entry.get("name") for entry in found if entry.role == "function"]
    known = [name for name in names if name is not None]
    for step in ("http", "auth", "keys"):
        data = data.get(step) if isinstance(data, dict) else None
    for index, key in enumerate(data if isinstance(data, list) else ()):
        functions = key.get("functions") if isinstance(key, dict) else None
        for place, name in enumerate(functions if isinstance(functions, list) else ()):
            if isinstance(name, str) and name not in known:
                yield ValidationIssue(
                    ("http", "auth", "keys", index, "functions", place),
                    f"no function {quote(name)} is in the file{did_you_mean(name, known) or '.'}",
                )


def find_tls_issues(data: Any) -> Iterator[ValidationIssue]:
    """TLS in our spelling and in Ray's."""
    sections = data if isinstance(data, dict) else {}
    ours, rays = sections.get("http"), sections.get("http_options")
    if isinstance(ours, dict) and isinstance(rays, dict) and ours.get("tls") is not None:
        for key in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs"):
            if rays.get(key) is not None:
                yield ValidationIssue(
                    ("http_options", key), "`http.tls` says it already. Delete one of the two."
                )


class _FunctionAddress(StrictModel):
    name: Name
    route_prefix: FunctionPrefix


class _Address(StrictModel):
    name: Name
    route_prefix: Prefix


def _import_path_issues(application: ApplicationEntry) -> Iterator[ValidationIssue]:
    path = application.data.get("import_path")
    if application.role != "other" or not isinstance(path, str):
        return
    if meant := _misspelt(path):
        yield ValidationIssue(
            application.key_path("import_path"),
            f"{quote(path)} is no builder of ours, did you mean {meant}?",
        )
    elif not path.strip(":.") or not ("." in path or ":" in path):
        yield ValidationIssue(
            application.key_path("import_path"), f"{quote(path)} is not package.module:attribute."
        )


def _misspelt(path: str) -> str | None:
    """The Wakeful builder that was meant; None for a module of the user's own, ``my_deployments``
    among them.
    """
    module, _, attribute = path.replace(":", ".").partition(".")
    if module == "deployments":
        return f"deployments:{closest_match(attribute, ROLES.values()) or 'function'}"
    if "deployments" in path:
        return None
    close = difflib.get_close_matches(path, ROLES, n=1, cutoff=0.85)
    return close[0] if close else None


def _address_issues(application: ApplicationEntry) -> Iterator[ValidationIssue]:
    address = {
        key: application.data[key] for key in ("name", "route_prefix") if key in application.data
    }
    if "name" not in address:
        yield ValidationIssue(
            application.key_path("name"), f"missing. A {application.role} needs a name."
        )
        address["name"] = "NAME"
    model = _FunctionAddress if application.role == "function" else _Address
    yield from _within(application.key_path(), validate_all(model, address)[1])


def _within(path: KeyPath, issues: Iterable[ValidationIssue]) -> Iterator[ValidationIssue]:
    return (ValidationIssue(path + issue.path, issue.message) for issue in issues)


def _shared_address_issues(
    found: Iterable[ApplicationEntry], line: Callable[[KeyPath], int]
) -> Iterator[ValidationIssue]:
    """Two applications with one name or one prefix; a second catalogue or host."""
    for key in ("name", "route_prefix"):
        first: dict[str, ApplicationEntry] = {}
        for application in found:
            value = application.get(key)
            if value is None:
                continue
            if value in first:
                other = first[value].key_path(key)
                where = f"{format_path(first[value].key_path())} on line {line(other)}"
                yield ValidationIssue(
                    application.key_path(key),
                    f"{quote(value)} is also the {key} of {where}. Each application has its own.",
                )
            first.setdefault(value, application)
    for role in ("catalogue", "host"):
        for again in [application for application in found if application.role == role][1:]:
            yield ValidationIssue(
                again.key_path("import_path"), f"a second {role}. One is enough; delete it."
            )


def _covered_prefix_issues(
    found: Iterable[ApplicationEntry], line: Callable[[KeyPath], int]
) -> Iterator[ValidationIssue]:
    """A prefix that is a function's own route: ``/a/infer`` where a function is at ``/a``."""
    functions = {
        application.get("route_prefix"): application
        for application in found
        if application.role == "function"
    }
    for application in found:
        parent, _, last = (application.get("route_prefix") or "").rpartition("/")
        if last in OWN_ROUTES and parent in functions:
            other = functions[parent]
            where = (
                f"{format_path(other.key_path())} on line {line(other.key_path('route_prefix'))}"
            )
            yield ValidationIssue(
                application.key_path("route_prefix"),
                f"{quote(application.get('route_prefix'))} is a route of {where}. Write another.",
            )
