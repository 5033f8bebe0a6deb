"""The calls of each function that is loaded: recorded ones, those of files, or its example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deployments.loadtest.calls.given import make_given_calls, sources_of
from deployments.loadtest.calls.load_call import LoadCall
from deployments.loadtest.calls.making import make_call
from deployments.loadtest.calls.recorded import make_recorded_calls
from deployments.loadtest.calls.rows import GivenCall
from deployments.loadtest.calls.served_functions import ServedFunction
from deployments.loadtest.load_options import LoadOptions
from deployments.loadtest.refusal import LoadTestRefused
from runtime.declaration.function_spec import DeclaredSpec
from runtime.errors import RequestError
from runtime.graph.requests.examples import Example
from runtime.types.example_files import find_files
from runtime.types.json_schemas import DEFINITIONS, rewrite_references


def make_calls(
    names: Iterable[str],
    served: Mapping[str, ServedFunction],
    specs: Mapping[str, DeclaredSpec],
    options: LoadOptions,
    given: Sequence[GivenCall],
    root: Path,
) -> dict[str, Sequence[LoadCall]]:
    """The calls of each function: the recorded ones, those that are given, or its example.

    Args:
        specs: as they are declared, where that is known.
        root: where relative paths of their examples begin.

    Raises:
        LoadTestRefused: there are none, or they cannot be sent so.
    """
    for call in given:
        if call.function in options.recorded_calls:
            raise LoadTestRefused(
                f"{call.function} has recorded calls, and others are given for it. Leave one out.",
                where="--calls",
            )
    made: dict[str, Sequence[LoadCall]] = {
        name: _recorded_of(served[name], specs.get(name), options, root)
        or _calls_of(served[name], specs.get(name), options, given, root)
        for name in names
    }
    for source in sources_of(given):
        source.finish()
    for name, calls in made.items():
        if not calls:
            source = next(one.source for one in given if one.function == name)
            raise LoadTestRefused(
                f"{name} has no row that can be sent: {source.note}", where="--calls"
            )
    return made


def _recorded_of(
    function: ServedFunction, spec: DeclaredSpec | None, options: LoadOptions, root: Path
) -> tuple[LoadCall, ...]:
    """The recorded calls of a function; none where there are none."""
    calls = options.recorded_calls.get(function.name, ())
    if calls and options.wire is not None:
        raise LoadTestRefused(
            f"recorded calls of {function.name} are sent in the form in which they came. Leave"
            " `--wire` out.",
            where="--wire",
        )
    needs_example = any(call.omitted for call in calls)
    example = _example(function, spec, root) if needs_example else None
    return make_recorded_calls(function, calls, example, options.headers)


def _calls_of(
    function: ServedFunction,
    spec: DeclaredSpec | None,
    options: LoadOptions,
    given: Sequence[GivenCall],
    root: Path,
) -> tuple[LoadCall, ...]:
    """The calls that are given for a function, else its example."""
    of = [call for call in given if call.function == function.name]
    if of:
        return make_given_calls(
            function,
            of,
            wire=options.wire,
            headers=options.headers,
            sequence_calls=options.sequence_calls,
        )
    return (
        make_call(
            function,
            _example(function, spec, root),
            wire=options.wire,
            headers=options.headers,
            sequence_calls=options.sequence_calls,
        ),
    )


def _example(function: ServedFunction, spec: DeclaredSpec | None, root: Path) -> Any:
    """The declared example of a function, files read; else the one that the server shows.

    Raises:
        LoadTestRefused: there is none, or a file of it cannot be read.
    """
    declared = None if spec is None else spec.example
    if declared is not None and any(find_files(declared)):
        assert spec is not None
        example = Example(
            declared, dict, lambda: _row_schema(function), root, spec.limits.max_body_bytes
        )
        try:
            return example.json_row
        except RequestError as error:
            raise LoadTestRefused(
                f"the example of {function.name}: {error.where}: {error.message}",
                where=f"example of {function.name}",
            ) from None
    shown = declared if declared is not None else function.example
    if shown is None:
        raise LoadTestRefused(
            f"{function.name} has no `example` to be called with. Declare one, or give rows with"
            f" `--calls {function.name}=rows.jsonl`.",
            where="--calls",
        )
    return shown


def _row_schema(function: ServedFunction) -> Mapping[str, Any]:
    """The schema of a row with its definitions within it, as the engine has it."""
    components = function.row["components"]["schemas"]
    prefix = "#/components/schemas/"
    rename = lambda target: DEFINITIONS + target.removeprefix(prefix)  # noqa: E731
    own = {key: value for key, value in function.row.items() if key != "components"}
    found: Mapping[str, Any] = rewrite_references({**own, "$defs": components}, rename)
    return found
