"""A declared graph made concrete without running it: stages imported, model files read, edges
checked.

``check`` and loading share it, so that nothing is started that would fail to load for a reason
visible here.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import numpy as np

from runtime.batching.streams.elements import INDEX
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.validation import format_path
from runtime.errors import LoadError, StoreError
from runtime.graph.graph import Graph, GraphIssue, Node
from runtime.graph.python_stages.annotation_refusals import SignatureError
from runtime.graph.python_stages.init_arguments import ArgumentError
from runtime.graph.python_stages.signature import Signature
from runtime.graph.request_fields import (
    CalledValues,
    RowValidator,
    unanswerable_reason,
)
from runtime.graph.requests.examples import Example
from runtime.graph.requests.raw_bodies import media_issue
from runtime.graph.resolved_stages import (
    ModelOpener,
    ResolvedModel,
    ResolvedPython,
    ResolvedStage,
    StageImportError,
    node_of,
    resolve_stage,
)
from runtime.graph.tasks import task_issues
from runtime.graph.wiring.wiring import wire_graph
from runtime.protocol import sequences
from runtime.protocol.row_values import ATOMS
from runtime.settings import Settings
from runtime.system.secrets import Secrets, find_references
from runtime.types.annotations import REQUEST_ID
from runtime.types.foreign_types import instead_of
from runtime.types.value_types import ValueType, of_annotation


@dataclass(frozen=True, slots=True)
class Assembly:
    """A function's stages and its wired graph; to be loaded only if ``issues`` is empty.

    Attributes:
        stages: what each stage consists of; None for one that was not found.
        nodes: the stages as they were wired; empty where a stage was not found.
        graph: None where a stage was not found.
        issues: what is wrong.
        has_rows: whether a request has a rows axis; False for a bare model without a batch axis.
        validator: of rows; None where a field cannot be carried by a request.
        called: by index of a stage, what reads the values of other functions that it takes.
        root: where the paths of the declaration begin.
    """

    spec: FunctionSpec
    stages: tuple[ResolvedStage | None, ...]
    nodes: tuple[Node, ...]
    graph: Graph | None
    issues: tuple[GraphIssue, ...]
    has_rows: bool = True
    validator: RowValidator | None = None
    called: Mapping[int, CalledValues] = field(default_factory=dict)
    root: Path = Path()

    @property
    def example(self) -> Example | None:
        """The declared example, which no file was read of yet; None: there is none, or its row
        cannot be checked.
        """
        declared, validator = self.spec.example, self.validator
        if declared is None or validator is None:
            return None
        most = self.spec.limits.max_body_bytes
        return Example(declared, validator.validate, validator.json_schema, self.root, most)


def assemble(spec: FunctionSpec, settings: Settings, open_model: ModelOpener) -> Assembly:
    """Find every stage of a function and wire them; what cannot be found or does not fit is in
    ``issues``.

    Args:
        open_model: reads a model file, or opens its session: a check starts nothing, and serving
            does not import what reads files.
    """
    stages: list[ResolvedStage | None] = []
    issues: list[GraphIssue] = []
    for index, stage in enumerate(spec.graph):
        resolved = None
        if unknown := list(_unknown_secrets(index, spec, settings.secrets)):
            issues += unknown
        else:
            try:
                resolved = resolve_stage(stage, spec, settings, open_model)
            except (ArgumentError, LoadError, StoreError, SignatureError) as error:
                key = "with" if isinstance(error, ArgumentError) else stage.kind
                module = error.module if isinstance(error, StageImportError) else ""
                issues.append(GraphIssue(index, key, str(error), module))
        stages.append(resolved)
    found = [stage for stage in stages if stage is not None]
    if len(found) < len(stages):
        return Assembly(spec, tuple(stages), (), None, tuple(issues))
    has_rows = not (
        len(found) == 1 and isinstance(found[0], ResolvedModel) and not found[0].info.batchable
    )
    nodes = tuple(node_of(stage, part) for stage, part in zip(spec.graph, found, strict=True))
    graph = _with_items(spec, found, nodes, wire_graph(nodes))
    validator, unreadable = _make_validator(spec, graph)
    called, not_given = _read_called(nodes, graph)
    issues = [
        *graph.issues,
        *_generator_issues(spec, found),
        *_element_issues(spec, nodes, graph),
        *_thread_issues(spec, found),
        *_deployment_issues(spec, found),
        *_function_issues(spec, graph),
        *_answer_issues(spec, graph, nodes[-1].named_values),
        *unreadable,
        *not_given,
    ]
    if spec.task is not None and not issues:
        issues += [
            GraphIssue(None, "task", message)
            for message in task_issues(spec.task, graph, streams=graph.streams)
        ]
    return Assembly(
        spec,
        tuple(stages),
        nodes,
        graph,
        tuple(issues),
        has_rows,
        validator,
        called,
        settings.root,
    )


def _unknown_secrets(index: int, spec: FunctionSpec, secrets: Secrets) -> Iterator[GraphIssue]:
    """Secrets that a stage names and that are given nowhere."""
    for place, name in find_references(spec.graph[index].with_, ("with",)):
        digest = spec.deployed.secrets.get(name, "")
        if secrets.find(name, digest) is None:
            yield GraphIssue(index, format_path(place), secrets.missing(name, digest))


def _make_validator(
    spec: FunctionSpec, graph: Graph
) -> tuple[RowValidator | None, list[GraphIssue]]:
    """What checks rows; or the fields that no request can carry, each at the first stage that
    takes it.
    """
    try:
        return RowValidator(spec.name, graph.fields), []
    except LoadError:
        issues = []
    for name, port in graph.fields.items():
        try:
            RowValidator(spec.name, {name: port})
        except LoadError as error:
            index = next(
                index for index, sources in enumerate(graph.sources) if name in sources.values()
            )
            stage = spec.graph[index]
            instead = instead_of(port.annotation)
            fix = f" {instead.take.format(name=port.name)}." if instead else ""
            message = f"stage {stage.stage!r} takes a field that no call can give: {error}{fix}"
            issues.append(GraphIssue(index, stage.kind, message))
    return None, issues


def _read_called(
    nodes: Sequence[Node], graph: Graph
) -> tuple[dict[int, CalledValues], list[GraphIssue]]:
    """What reads the values of other functions, by the index of the stage that takes them; or the
    parameters of a type that no other function can give.
    """
    called, issues = {}, []
    for index, (node, names) in enumerate(zip(nodes, graph.called, strict=True)):
        ports = [
            port
            for port in node.takes
            if port.name in names and port.annotation not in (Any, object)
        ]
        try:
            if ports:
                called[index] = CalledValues(node.name, ports)
        except LoadError as error:
            message = (
                f"stage {node.name!r} takes what another function gives, of which JSON comes here:"
                f" {error} Let that function give what JSON can say."
            )
            issues.append(GraphIssue(index, node.kind, message))
    return called, issues


def _function_issues(spec: FunctionSpec, graph: Graph) -> Iterator[GraphIssue]:
    """Sections of the function that its fields and states do not fit."""
    if message := media_issue(spec.accepts, graph.fields):
        yield GraphIssue(None, "accepts", message)
    if message := sequences.state_issue(spec.sequences, graph.state_names):
        yield GraphIssue(None, "sequences", message)


def _answer_issues(
    spec: FunctionSpec, graph: Graph, given: Mapping[str, ValueType]
) -> Iterator[GraphIssue]:
    """What the last stage gives and no answer can carry.

    Args:
        given: by the last stage, each time that it is called.
    """
    last = spec.graph[-1]
    if last.each is not None and (files := [name for name, one in given.items() if one.media_type]):
        message = (
            f"stage {last.stage!r} runs over elements and gives {files[0]!r}, a file, for each; an"
            " answer is one file. Give `bytes` without a MediaType, which a list in JSON has as"
            " base64 text, or join them in one more stage."
        )
        yield GraphIssue(len(spec.graph) - 1, "each", message)
        return
    for name, value in graph.answer.items():
        if value.container != "object" or value.is_any or value.media_type:
            continue
        if reason := unanswerable_reason(value.annotation):
            instead = instead_of(value.annotation)
            fix = instead.give if instead else "Give what JSON can say"
            message = (
                f"stage {last.stage!r} gives {name!r} as the answer: {reason}, and JSON has no form"
                f" for it. {fix}."
            )
            yield GraphIssue(len(spec.graph) - 1, last.kind, message)


def _generator_issues(spec: FunctionSpec, stages: Sequence[ResolvedStage]) -> Iterator[GraphIssue]:
    """Stages that yield where they cannot."""
    last = len(stages) - 1
    for index, (stage, resolved) in enumerate(zip(spec.graph, stages, strict=True)):
        if not isinstance(resolved, ResolvedPython) or not resolved.signature.is_generator:
            continue
        if index < last:
            message = (
                f"stage {stage.stage!r} yields, and {spec.graph[index + 1].stage!r} comes behind"
                " it. Only the last stage may yield; return a list here."
            )
            yield GraphIssue(index, "python", message)
        for key in ("each", "when"):
            if getattr(stage, key) is not None:
                message = f"stage {stage.stage!r} yields the answer of a whole row. Delete '{key}'."
                yield GraphIssue(index, key, message)


INDEX_TYPE: Final = of_annotation(int)


def _with_items(
    spec: FunctionSpec, stages: Sequence[ResolvedStage], nodes: Sequence[Node], graph: Graph
) -> Graph:
    """The graph of a function whose answer streams: ``answer`` is what an item has."""
    last, stage, node = stages[-1], spec.graph[-1], nodes[-1]
    if not stage.stream:
        yields = isinstance(last, ResolvedPython) and last.signature.is_generator
        return replace(graph, streams=yields)
    answer = {name: node.named_values[name] for name in graph.answer}
    if stage.ordered is not False:
        return replace(graph, answer=answer, streams=True)
    return replace(graph, answer={INDEX: INDEX_TYPE, **answer}, streams=True)


def _element_issues(
    spec: FunctionSpec, nodes: Sequence[Node], graph: Graph
) -> Iterator[GraphIssue]:
    """Stages whose elements cannot be streamed."""
    last = len(nodes) - 1
    for index, stage in enumerate(spec.graph):
        if stage.stream and index < last:
            message = (
                f"stage {stage.stage!r} streams what it gives to the caller, and"
                f" {spec.graph[index + 1].stage!r} comes behind it. Delete 'stream' here, or let"
                " that stage run over the same 'each' and stream."
            )
            yield GraphIssue(index, "stream", message)
    if not spec.graph[-1].stream:
        return
    if spec.graph[-1].ordered is False and INDEX in nodes[-1].named_values:
        message = (
            f"each item has the {INDEX!r} of its element, and the stage gives a value of that"
            " name. Name it otherwise ('outputs')."
        )
        yield GraphIssue(last, "ordered", message)
    for index in range(last, -1, -1):
        node = nodes[index]
        if node.each != nodes[-1].each:
            break
        if kept := next((name for name in node.named_values if name in graph.state_names), None):
            message = (
                f"the state {kept!r} is a list of what is streamed, and is not gathered. Give it"
                " in a stage before."
            )
            yield GraphIssue(index, spec.graph[index].kind, message)


def _thread_issues(spec: FunctionSpec, stages: Sequence[ResolvedStage]) -> Iterator[GraphIssue]:
    """Coroutines that are declared to have threads."""
    for index, (stage, resolved) in enumerate(zip(spec.graph, stages, strict=True)):
        if stage.threads and isinstance(resolved, ResolvedPython) and resolved.signature.is_async:
            message = (
                f"stage {stage.stage!r} is an `async def`: it runs on the event loop, where any"
                " number of its rows wait at once, and no thread would run it. Delete 'threads', or"
                " write it as a plain `def`."
            )
            yield GraphIssue(index, "threads", message)


def _deployment_issues(spec: FunctionSpec, stages: Sequence[ResolvedStage]) -> Iterator[GraphIssue]:
    """Stages that are declared to have a deployment of their own and cannot leave the function's
    process.
    """
    for index, (stage, resolved) in enumerate(zip(spec.graph, stages, strict=True)):
        if stage.deployment is not None and isinstance(resolved, ResolvedPython):
            for reason in split_issues(resolved.signature):
                message = (
                    f"stage {stage.stage!r} cannot have a deployment of its own: {reason}."
                    " Otherwise delete 'deployment'."
                )
                yield GraphIssue(index, "deployment", message)


_SERIALIZABLE: Final = frozenset({*ATOMS, Any, object, list, tuple, dict, Sequence, Mapping})

_ADVICE: Final = (
    "Give it as text, bytes, a number, an array, a list, a tuple, a date, a TypedDict or a dict"
    " with text keys"
)


def split_issues(signature: Signature) -> Iterator[str]:
    """Why a Python stage cannot be split off.

    It must not yield or take a state, and what it takes and gives must be able to go to another
    process unchanged (``runtime.protocol.row_values``). A type of which nothing is known passes
    here; its values are checked when they are sent.
    """
    if signature.is_generator:
        yield "it yields, and a stream goes to its caller from the function's own process"
    for param in signature.params:
        if param.is_state:
            yield f"its {param.name!r} is a State, which lives where the function's sequences do"
        elif param.header is not None and param.header is not REQUEST_ID:
            yield (
                f"its {param.name!r} is a header of the request, which the function's own stages"
                " read. Take it there, and give it on"
            )
        elif name := non_serializable_type(param.annotation):
            yield f"its {param.name!r} is {name}, which cannot go to another process. {_ADVICE}"
    for value_name, value in signature.gives.items():
        if value.container != "array" and (name := non_serializable_type(value.annotation)):
            what = repr(value_name) if value_name else "what it gives"
            yield f"{what} is {name}, which cannot go to another process. {_ADVICE}"


def non_serializable_type(annotation: Any) -> str:
    """The name of the type within an annotation whose values cannot leave their process; empty if
    there is none.
    """
    return _find_non_serializable(annotation, frozenset())


def _find_non_serializable(annotation: Any, enclosing: frozenset[Any]) -> str:
    """As ``non_serializable_type``, within TypedDicts that are being read already."""
    origin, args = get_origin(annotation), get_args(annotation)

    def first_of(annotations: Iterable[Any], enclosing: frozenset[Any] = enclosing) -> str:
        return next(filter(None, (_find_non_serializable(a, enclosing) for a in annotations)), "")

    if origin is Annotated:
        return first_of(args[:1])
    if origin is Literal or np.ndarray in (annotation, origin):
        return ""
    kind = origin or annotation
    if isinstance(kind, type) and not args and kind in _SERIALIZABLE:
        return ""
    if origin in (Union, types.UnionType, list, tuple, Sequence):
        return first_of(arg for arg in args if arg is not Ellipsis)
    if origin in (dict, Mapping):
        key, value = args
        return first_of([value]) if key in (str, Any) else f"a dict with keys of {_name_of(key)}"
    if typing.is_typeddict(annotation):
        if annotation in enclosing:
            return ""
        hints = typing.get_type_hints(annotation, include_extras=True)
        return first_of(hints.values(), enclosing | {annotation})
    if isinstance(annotation, type) and issubclass(annotation, np.generic):
        is_known = issubclass(annotation, np.bool_ | np.integer | np.floating)
        return "" if is_known or annotation is np.generic else _name_of(annotation)
    return _name_of(annotation) if isinstance(origin or annotation, type) else ""


def _name_of(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)
