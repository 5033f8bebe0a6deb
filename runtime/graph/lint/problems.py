"""What is wrong with a function whose stages fit together: an order in which a value comes too
late, an example that it would refuse, a call that its callee would, a name that keeps nothing back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Final

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import MissingInput, RequestError
from runtime.graph.assembly import Assembly
from runtime.graph.graph import GraphIssue
from runtime.graph.python_stages.literal_calls import call_issue, find_literal_calls
from runtime.graph.resolved_stages import ResolvedPython
from runtime.graph.tasks import TASKS
from runtime.system.messages import list_names, quote_names, suggest_name
from runtime.types.example_files import FILE_TAG
from runtime.types.value_types import ValueType


def find_problems(assembly: Assembly) -> Iterator[GraphIssue]:
    """What is wrong with an assembled function; nothing of one that has issues as such."""
    return chain(
        find_misplaced_stages(assembly),
        _example(assembly),
        _omitted_fields(assembly),
        _literal_calls(assembly),
    )


def find_misplaced_stages(assembly: Assembly) -> Iterator[GraphIssue]:
    """Stages that stand below the one that needs them: what such a stage gives is used nowhere, and
    a stage above it takes a request field of that name. Unlike what ``rules`` find, it is wrong: no
    caller knows of that field.
    """
    graph, spec = assembly.graph, assembly.spec
    if graph is None or assembly.issues:
        return
    for index, unused in unused_values(assembly).items():
        own = graph.sources[index].values()
        for name in unused:
            if name not in graph.fields or name in own:
                continue
            taker = next((at for at in range(index) if name in graph.sources[at].values()), None)
            if taker is not None:
                stage, above = spec.graph[index], spec.graph[taker].stage
                message = (
                    f"stage {stage.stage!r} gives {name!r}, and {above!r}, which takes it, stands"
                    f" above: there {name!r} is a request field. The order is the flow: move"
                    f" {stage.stage!r} above {above!r}."
                )
                yield GraphIssue(index, stage.kind, message)
                break


def unused_values(assembly: Assembly) -> dict[int, dict[str, ValueType]]:
    """By stage: the values that no stage, condition or answer uses."""
    graph = assembly.graph
    assert graph is not None
    givers: dict[str, frozenset[int]] = {}
    used: set[tuple[int, str]] = set()
    for index, (node, sources) in enumerate(zip(assembly.nodes, graph.sources, strict=True)):
        read = [*sources.values(), node.each, None if node.when is None else node.when.value]
        used |= {(giver, name) for name in read if name for giver in givers.get(name, ())}
        for name in node.named_values:
            before = frozenset[int]() if node.when is None else givers.get(name, frozenset())
            givers[name] = before | {index}
    used |= {
        (giver, name)
        for name in (*graph.answer, *graph.state_names)
        for giver in givers.get(name, ())
    }
    found = {
        index: {
            name: type_
            for name, type_ in node.named_values.items()
            if (index, name) not in used and name not in _by_the_way(assembly.spec, index)
        }
        for index, node in enumerate(assembly.nodes)
    }
    return {index: unused for index, unused in found.items() if unused}


def _by_the_way(spec: FunctionSpec, index: int) -> Collection[str]:
    """What a called function gives beside what its task promises, such as a count of tokens."""
    called = spec.graph[index].function
    is_known = called is not None and called in spec.deployed.calls
    task = spec.declaration_of(called).get("task") if called and is_known else None
    return TASKS[task].may_give if task else ()


def _example(assembly: Assembly) -> Iterator[GraphIssue]:
    """What is wrong with the declared example, by the fields that the function takes."""
    example = assembly.example
    if example is None or assembly.issues:
        return
    try:
        example.fields()
    except RequestError as error:
        place = (
            f"example.{error.where}"
            if error.where and not isinstance(error, MissingInput)
            else "example"
        )
        yield GraphIssue(None, place, f"{error.message}{_file_hint(assembly.spec, error)}")


def _omitted_fields(assembly: Assembly) -> Iterator[GraphIssue]:
    """Names in ``capture.omit`` that are fields neither of the request nor of the answer: what was
    to be kept out of the recorded calls would be in them.
    """
    graph = assembly.graph
    if graph is None or assembly.issues:
        return
    fields = [*graph.fields, *(name for name in graph.answer if name not in graph.fields)]
    for index, name in enumerate(assembly.spec.capture.omit):
        if name not in fields:
            yield GraphIssue(
                None,
                f"capture.omit[{index}]",
                f"the function has no field {quote_names(name)}, so nothing would be kept out."
                f"{suggest_name(name, fields)} There are {list_names(fields)}.",
            )


_FILE_NAME: Final = re.compile(r"[^\s=+]{1,255}\.[A-Za-z][A-Za-z0-9]{1,4}")


def _file_hint(spec: FunctionSpec, error: RequestError) -> str:
    """The end of a message about a field of bytes that was given the name of a file."""
    given = spec.example.get(error.where) if spec.example is not None else None
    if "base64" in error.message and isinstance(given, str) and _FILE_NAME.fullmatch(given):
        return f" The content of a file is `{error.where}: {FILE_TAG} {given}`."
    return ""


def _literal_calls(assembly: Assembly) -> Iterator[GraphIssue]:
    """Calls of functions, as they are written out in stages, that these would refuse. They are read
    where a file is, and not where a function wakes, whose source may have changed since.
    """
    spec = assembly.spec
    for index, (stage, part) in enumerate(zip(spec.graph, assembly.stages, strict=False)):
        if not isinstance(part, ResolvedPython) or assembly.issues:
            continue
        for function, handle in part.bodies_with_handles:
            takes = spec.deployed.calls[handle.function].takes
            for call in find_literal_calls(function, handle.name):
                if message := call_issue(call, handle.function, takes):
                    yield GraphIssue(index, "python", f"stage {stage.stage!r}: {message}")
