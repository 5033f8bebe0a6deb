"""Turns a declared file into a ``ResolvedConfig``: all that can be known of it, and all that can be
known to be wrong with it, before anything starts.

Theory of operation: a file is expanded (``artifacts.named_models``: models by name become graphs;
models by their address get what the lock says of them), split (stages with a ``deployment`` become
functions), linked (each function gets the interface and the declaration of those that its stages
call) and assembled (``graph.assembly``: stages imported, model files read, edges checked). Each
function is assembled once; the CLI reads the kept assemblies for what it prints.

Until they are linked, functions are as declared. What a link finds out travels with the function
(``FunctionSpec.deployed``): a replica does not have the file, and a sleeping function cannot be
asked without waking it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from runtime.artifacts.named_models.expansion import expand_model
from runtime.artifacts.remote.pinned_files import pin_stages
from runtime.declaration import split_stages
from runtime.declaration.config_file import ConfigFile
from runtime.declaration.function_spec import CalleeSpec, DeclaredSpec, FunctionSpec
from runtime.errors import DeclarationError, LoadError, Problem, StoreError
from runtime.graph.assembly import Assembly, assemble
from runtime.graph.graph import GraphIssue
from runtime.graph.interfaces import answer_to_json, fields_to_json
from runtime.graph.lint.problems import find_problems
from runtime.graph.lint.rules import find_warnings
from runtime.graph.resolved_stages import ResolvedModel, find_callees, forget_failed_imports
from runtime.onnx.model_info import inspect_model
from runtime.settings import Settings
from runtime.system.files import LOCK_FILE
from runtime.system.messages import did_you_mean
from runtime.types.annotations import REQUEST_ID


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """A file and what it comes to.

    Attributes:
        file: as it was read.
        functions: each with those that it calls; a split stage before the function it belongs to.
        parents: by the name of each split stage, its function and its index there.
        assemblies: of each function, by name; incomplete for a function with a problem.
        problems: why the file cannot be served, in the order of the file.
        warnings: what serves and was probably not meant (``graph.lint.rules``), in the same order.
    """

    file: ConfigFile
    functions: tuple[FunctionSpec, ...]
    parents: Mapping[str, tuple[str, int]]
    assemblies: Mapping[str, Assembly] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @classmethod
    def split(cls, file: ConfigFile) -> ResolvedConfig:
        """The functions that a cluster deploys, neither linked nor checked yet: each stage with a
        ``deployment`` is a function of its own."""
        functions = split_stages.expand(file.functions)
        return cls(file, functions, split_stages.parents_of(file.functions))

    def parent_of(self, name: str) -> str:
        """The function that a split stage belongs to; empty for a declared function."""
        return self.parents[name][0] if name in self.parents else ""

    def key_of(self, name: str) -> str:
        """The key of a function in the file, for a split stage that of its function."""
        return self.file.key_of(self.parent_of(name) or name)

    def in_file_order(
        self, issues: Iterable[tuple[str, GraphIssue]], others: Iterable[Problem] = ()
    ) -> tuple[Problem, ...]:
        """Issues of functions, by name, as problems of the file, in its order. What is wrong with a
        module is said once.
        """
        found, modules = list(others), set()
        for name, issue in issues:
            if not issue.module or issue.module not in modules:
                found.append(self.file.problem(self._issue_key(name, issue), issue.message))
            modules.add(issue.module)
        return tuple(sorted(found, key=lambda problem: problem.line))

    def _issue_key(self, function: str, issue: GraphIssue) -> str:
        """The key of an issue in the file, where a model by name stands for all of its stages."""
        name = self.parent_of(function) or function
        args = self.file.raw["applications"][self.file.positions[name]]["args"]
        is_of_model = issue.stage is not None and "model" in args
        return f"{self.file.stage_key(name, issue.stage)}.{'model' if is_of_model else issue.key}"


def resolve(
    file: ConfigFile,
    settings: Settings,
    *,
    split: bool = False,
    other_problems: Iterable[Problem] = (),
) -> ResolvedConfig:
    """A file that is right, as one process serves it or as a cluster does.

    Args:
        split: stages with a ``deployment`` become functions of their own, as on a cluster;
            otherwise one process runs them within their function.
        other_problems: found elsewhere, to be raised with those found here.

    Raises:
        DeclarationError: with every problem.
    """
    assembler = _Assembler(settings, file.path.parent / LOCK_FILE)
    fused = _examine(file, assembler)
    file = fused.file
    if problems := [*fused.problems, *other_problems]:
        raise DeclarationError(problems)
    if not (split and fused.parents):
        return fused
    resolved = _split(fused, assembler)
    if resolved.problems:
        raise DeclarationError(resolved.problems)
    return resolved


def examine(file: ConfigFile, settings: Settings) -> ResolvedConfig:
    """A file with its problems and warnings, as one process serves it; and with what keeps a
    cluster from splitting it, once it is right otherwise.

    Stages are imported and model files read; no class is constructed and no model run.
    """
    assembler = _Assembler(settings, file.path.parent / LOCK_FILE)
    fused = _examine(file, assembler)
    if fused.problems or not fused.parents:
        return fused
    return replace(fused, problems=_split(fused, assembler).problems)


def link_callees(
    functions: Sequence[FunctionSpec], settings: Settings
) -> tuple[tuple[FunctionSpec, ...], list[tuple[str, GraphIssue]]]:
    """Every function with those that it calls, in the order given; and what is wrong: the
    function's name and the issue.

    A function with a fault of its own is linked to no caller; its callers get an issue about it.
    """
    return _link(functions, _Assembler(settings, settings.root / LOCK_FILE))


class _Assembler:
    """Makes models by name graphs, assembles each function and reads each model file once.

    Mutable state, which grows: ``_assemblies``, the last of each function by name; ``_unexpanded``,
    why a function's model is no graph, by its name.
    """

    def __init__(self, settings: Settings, lock: Path) -> None:
        forget_failed_imports()
        self._settings = settings
        self._lock = lock
        self._assemblies: dict[str, Assembly] = {}
        self._unexpanded: dict[str, str] = {}

        @functools.cache
        def read_model(path: Path) -> ResolvedModel:
            """Once a file: a thousand functions often share twenty models."""
            return ResolvedModel(path, inspect_model(path))

        self._read_model = read_model

    def expand(self, functions: Sequence[DeclaredSpec]) -> tuple[DeclaredSpec, ...]:
        """The functions with the graphs that their ``model`` stands for; one whose model is no
        graph is left as it is, and ``assemble`` says why.
        """
        return tuple(map(self._expand, functions))

    def _expand(self, spec: DeclaredSpec) -> DeclaredSpec:
        try:
            spec = pin_stages(spec, self._lock)
            return expand_model(spec, self._settings, lambda path: self._read_model(path).info)
        except (StoreError, LoadError) as error:
            self._unexpanded[spec.name] = str(error)
            return spec

    def assemble(self, spec: FunctionSpec) -> Assembly:
        if spec.name in self._unexpanded:
            issue = GraphIssue(None, "model", self._unexpanded[spec.name])
            return Assembly(spec, (), (), None, (issue,))
        known = self._assemblies.get(spec.name)
        if known is None or known.spec != spec:
            known = self._assemblies[spec.name] = assemble(spec, self._settings, self._read_model)
        return known


def _examine(file: ConfigFile, assembler: _Assembler) -> ResolvedConfig:
    file = replace(file, functions=assembler.expand(file.functions))
    split_problems = [
        file.problem(f"{file.stage_key(issue.function, issue.stage)}.{issue.key}", issue.message)
        for issue in split_stages.split_issues(file.functions)
    ]
    config = ResolvedConfig(file, tuple(map(FunctionSpec.of, file.functions)), {})
    if not split_problems:
        called = {call.function for spec in file.functions for _, call in find_callees(spec)}
        functions = split_stages.with_called_stages(file.functions, called)
        config = ResolvedConfig(file, functions, split_stages.parents_of(file.functions))
    resolved, issues = _assemble_all(config, assembler)
    assemblies = resolved.assemblies.items()
    issues += [(name, issue) for name, assembly in assemblies for issue in find_problems(assembly)]
    warnings = [(name, issue) for name, assembly in assemblies for issue in find_warnings(assembly)]
    return replace(
        resolved,
        problems=resolved.in_file_order(issues, split_problems),
        warnings=resolved.in_file_order(warnings),
    )


def _split(fused: ResolvedConfig, assembler: _Assembler) -> ResolvedConfig:
    """A file that is right, as a cluster deploys it; with the problems that only this has."""
    resolved, issues = _assemble_all(ResolvedConfig.split(fused.file), assembler)
    return replace(resolved, problems=resolved.in_file_order(issues))


def _assemble_all(
    config: ResolvedConfig, assembler: _Assembler
) -> tuple[ResolvedConfig, list[tuple[str, GraphIssue]]]:
    """The functions linked and assembled, and what is wrong. A stage that cannot be linked has that
    issue alone.
    """
    functions, issues = _link(config.functions, assembler)
    unlinked = {(name, issue.stage) for name, issue in issues}
    assemblies = {spec.name: assembler.assemble(spec) for spec in functions}
    issues += [
        (name, issue)
        for name, assembly in assemblies.items()
        for issue in assembly.issues
        if (name, issue.stage) not in unlinked
    ]
    return replace(config, functions=functions, assemblies=assemblies), issues


def _link(
    functions: Sequence[FunctionSpec], assembler: _Assembler
) -> tuple[tuple[FunctionSpec, ...], list[tuple[str, GraphIssue]]]:
    linker = _Linker(functions, assembler)
    return tuple(linker.linked(spec.name) for spec in functions), linker.issues


MAX_CALLED: Final = 64
"""Functions that a function calls, by its stages and by those of the functions that it calls, each
counted once. All of them are loaded when it is tried (``InlineCallees``), and each waits for those
below it.
"""


def _callees_first(functions: Sequence[FunctionSpec]) -> Sequence[FunctionSpec]:
    """The functions, each after those that it calls; as they are, where some call each other in a
    circle. Not by recursion: a thousand may call each other one below the other.
    """
    declared = {spec.name: spec for spec in functions}
    seen: set[str] = set()
    found: dict[str, FunctionSpec] = {}
    pending = [(spec, False) for spec in reversed(functions)]
    while pending:
        spec, comes_now = pending.pop()
        if comes_now:
            found[spec.name] = spec
        elif spec.name not in seen:
            seen.add(spec.name)
            called = [call.function for _, call in find_callees(spec)]
            pending.append((spec, True))
            pending += [(declared[name], False) for name in called if name in declared]
        elif spec.name not in found:
            return functions
    return tuple(found.values())


class _Linker:
    """Links functions to those that they call, callees first.

    Mutable state: ``_linked``, ``_callees``, ``_declarations`` (of linked functions, by digest) and
    ``issues``, which grow.
    """

    def __init__(self, functions: Sequence[FunctionSpec], assembler: _Assembler) -> None:
        self._declared = {spec.name: spec for spec in functions}
        self._assembler = assembler
        self._linked: dict[str, FunctionSpec] = {}
        self._callees: dict[str, CalleeSpec | str] = {}
        self._declarations: dict[str, dict[str, Any]] = {}
        self.issues: list[tuple[str, GraphIssue]] = []
        for spec in _callees_first(functions):
            self._link(spec, ())

    def linked(self, name: str) -> FunctionSpec:
        return self._linked[name]

    def _link(self, spec: FunctionSpec, path: tuple[str, ...]) -> None:
        if spec.name in self._linked:
            return
        calls: dict[str, CalleeSpec] = {}
        for index, call in find_callees(spec):
            name = call.function
            why = self._unknown_or_circular(name, (*path, spec.name))
            if not why:
                self._link(self._declared[name], (*path, spec.name))
                callee = self._callee(name)
                if isinstance(callee, CalleeSpec):
                    known = calls.setdefault(name, callee)
                    if call.at_load and not known.at_load:
                        calls[name] = known.model_copy(update={"at_load": True})
                    continue
                why = callee
            if call.parameter:
                why = f"parameter {call.parameter!r} of stage {spec.graph[index].stage!r}: {why}"
            self.issues.append((spec.name, GraphIssue(index, call.key, why)))
        declarations: dict[str, Any] = {}
        for name, callee in calls.items():
            below = self._linked[name].deployed.declarations
            declarations |= {callee.digest: self._declarations[callee.digest], **below}
        if calls != spec.deployed.calls:
            spec = spec.with_deployed(calls=calls, declarations=declarations)
        self._linked[spec.name] = spec

    def _unknown_or_circular(self, name: str, path: tuple[str, ...]) -> str:
        """Why a function of that name cannot be linked at the end of that path; empty if it can."""
        if name not in self._declared:
            known = ", ".join(self._declared)
            near = did_you_mean(name, self._declared) or f" (there are: {known})."
            return f"no function of the file is called {name!r}{near}"
        if len(path) > MAX_CALLED:
            return (
                f"more than {MAX_CALLED} functions call each other, one below the other or in a"
                " circle. Take one of the calls out."
            )
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            return (
                f"the functions call each other in a circle: {circle}. Take one of the calls out."
            )
        return ""

    def _callee(self, name: str) -> CalleeSpec | str:
        """What callers must know of a linked function, or why it cannot be called."""
        if name not in self._callees:
            self._callees[name] = self._describe_callee(self._linked[name])
        return self._callees[name]

    def _describe_callee(self, spec: FunctionSpec) -> CalleeSpec | str:
        function = f"the function {spec.name!r}"
        assembly = self._assembler.assemble(spec)
        graph = assembly.graph
        if graph is None or assembly.issues:
            return f"{function} is at fault itself."
        if (count := len(spec.all_called)) >= MAX_CALLED:
            return (
                f"{function} calls {count} others, with those that they call; {MAX_CALLED - 1} is"
                " the most for one that is called itself. Merge some of them."
            )
        if graph.streams:
            return (
                f"{function} streams its answer, and a stage takes a whole one. Call it over HTTP."
            )
        if spec.sequences is not None:
            return (
                f"{function} keeps state for the sequences of its callers, and a stage is none of "
                "them."
            )
        if header := next((name for name in graph.headers if name != REQUEST_ID.name), None):
            return (
                f"{function} reads the header {header!r} of its callers, and a stage sends none. "
                "Let it take a field instead, and read the header in a stage of the function that "
                "calls it."
            )
        digest, declaration = spec.declaration
        self._declarations[digest] = declaration
        return CalleeSpec(
            route_prefix=spec.route_prefix,
            digest=digest,
            takes=fields_to_json(graph.fields),
            gives=answer_to_json(graph),
        )
