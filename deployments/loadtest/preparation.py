"""A load test as it was asked for, made into a plan: everything that is wrong with it is said here,
before any load begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import httpx

from deployments.loadtest.arrivals import Arrival, LoadShape, parse_shape, read_arrivals
from deployments.loadtest.calls.captures import CapturedCall
from deployments.loadtest.calls.load_call import LoadCall, Wire
from deployments.loadtest.calls.making import make_call
from deployments.loadtest.calls.recorded import is_capture, make_recorded_calls, read_recordings
from deployments.loadtest.calls.rows import GivenCall, read_calls
from deployments.loadtest.calls.served_functions import ServedFunction, read_functions
from deployments.loadtest.generator.plan import LoadPlan
from deployments.loadtest.refusal import LoadTestRefused
from deployments.loadtest.results.records import Promise
from deployments.loadtest.results.verdict import shortest_seconds
from runtime.declaration.config_file import ConfigFile
from runtime.declaration.function_spec import DeclaredSpec
from runtime.errors import RequestError
from runtime.graph.requests.examples import Example
from runtime.system.messages import did_you_mean
from runtime.types.example_files import find_files
from runtime.types.json_schemas import DEFINITIONS, rewrite_references

EACH: Final = ""
"""In the place of a function's name: every one that has no value of its own."""

RATE: Final = 10.0
"""Calls a second of each function, where none are given."""

WARM_UP_S: Final = 5.0
"""Of shapes that begin with the rate that they are about."""

_WARMED: Final = frozenset({"steady", "burst"})

ASK_S: Final = 10.0
"""Longest wait for what a server says of its functions."""

ByFunction = Mapping[str, float]
"""Numbers by function, and of ``EACH`` other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What is asked for.

    Attributes:
        functions: by name; empty: those that rates, calls or a trace name, else all.
        shape: as ``parse_shape`` reads it.
        rates: calls a second.
        seconds: that count; None: as the shape decides.
        warm_up_s: before them; None: as the shape decides.
        calls: functions (``EACH``: each line says its own) and files.
        trace: files of recorded calls, which ``with_recordings`` reads.
        recorded: their arrivals.
        recorded_calls: by function; the arrivals have their indices.
        promises: of ``Promise``'s attributes, which go before those that are declared.
        should_skip: leave out lines of files that cannot be used.
        finds_capacity: the rates are those of the first step.
    """

    functions: tuple[str, ...] = ()
    shape: str = "steady"
    shape_options: Mapping[str, float] = field(default_factory=dict)
    rates: ByFunction = field(default_factory=dict)
    seconds: float | None = None
    warm_up_s: float | None = None
    calls: tuple[tuple[str, Path], ...] = ()
    trace: tuple[Path, ...] = ()
    recorded: Sequence[Arrival] = ()
    recorded_calls: Mapping[str, Sequence[CapturedCall]] = field(default_factory=dict)
    wire: Wire | None = None
    sequence_calls: int = 1
    promises: Mapping[str, ByFunction] = field(default_factory=dict)
    seed: int = 0
    processes: int = 1
    connections: int = 1000
    timeout_s: float = 60.0
    should_skip: bool = False
    finds_capacity: bool = False
    notes: tuple[str, ...] = ()


def ask_functions(url: str, *, is_local: bool = False) -> dict[str, ServedFunction]:
    """The functions that a server has.

    Args:
        is_local: it was started here, and is asked without a proxy.

    Raises:
        LoadTestRefused: it does not answer, or is no Wakeful.
    """
    try:
        answer = httpx.get(f"{url}/openapi.json", timeout=ASK_S, trust_env=not is_local)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise LoadTestRefused(
            f"{url} does not answer: {str(error).rstrip('.') or type(error).__name__}. `wakeful"
            " status` shows what serves on this machine; without --url a file is served for the"
            " load test.",
            where="--url",
        ) from None
    try:
        answer.raise_for_status()
        found = read_functions(answer.json())
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError, AttributeError):
        raise LoadTestRefused(
            f"{url} answers /openapi.json with status {answer.status_code}, and not as Wakeful"
            " does. Give the address of a `wakeful run` or `wakeful up`, without a path.",
            where="--url",
        ) from None
    if not found:
        raise LoadTestRefused(f"{url} has no functions.", where="--url")
    return found


def read_given(options: LoadOptions) -> list[GivenCall]:
    """The calls of the files that are given; those of captures ``with_recordings`` reads.

    Raises:
        LoadTestRefused: a file cannot be used.
    """
    return [
        call
        for name, path in options.calls
        if name != EACH or not is_capture(path)
        for call in read_calls(path, name, should_skip=options.should_skip)
    ]


def with_recordings(options: LoadOptions, known: Iterable[str]) -> LoadOptions:
    """The same with the calls of its traces, and of captures among the files of calls, unless they
    were read before.

    Args:
        known: functions that there are.

    Raises:
        DeclarationError, LoadTestRefused: a line of them is damaged, or of a function that is not
            known.
    """
    if options.recorded or options.recorded_calls:
        return options
    captures = [path for path in options.trace if is_capture(path)]
    if captures and len(captures) == len(options.trace):
        recording = read_recordings(captures, should_skip=options.should_skip)
        return replace(
            options,
            recorded=recording.arrivals,
            recorded_calls=recording.calls,
            notes=(*options.notes, *recording.notes),
        )
    if len(options.trace) > 1:
        raise LoadTestRefused(
            "several traces are captures, one a function. A CSV file has all functions in one.",
            where="--trace",
        )
    if options.trace:
        return replace(options, recorded=read_arrivals(options.trace[0], set(known)))
    sent = [path for name, path in options.calls if name == EACH and is_capture(path)]
    recording = read_recordings(sent, should_skip=options.should_skip)
    return replace(
        options, recorded_calls=recording.calls, notes=(*options.notes, *recording.notes)
    )


def choose_functions(
    options: LoadOptions, given: Iterable[GivenCall], known: Iterable[str]
) -> list[str]:
    """The functions that are loaded, in the order of ``known``.

    Raises:
        LoadTestRefused: one that an option names is not known, or is not loaded.
    """
    known = list(known)
    by_rate = {name for name in options.rates if name != EACH}
    called = {call.function for call in given}
    recorded = {arrival.function for arrival in options.recorded} | options.recorded_calls.keys()
    named = set(options.functions) or by_rate | called | recorded or set(known)
    options_of = {
        "--function": options.functions,
        "--rps": by_rate,
        "--calls": called,
        "--trace": recorded,
    }
    for option, names in options_of.items():
        for name in names:
            _require_known(name, known, option)
    for part, by_function in options.promises.items():
        option = f"--{part.removeprefix('latency_').replace('_', '-')}"
        for name in filter(None, by_function):
            _require_known(name, known, option)
            if name not in named:
                raise LoadTestRefused(
                    f"{name} is promised something, and is not loaded. Add `--function {name}`, or"
                    " leave the promise out.",
                    where=option,
                )
    return [name for name in known if name in named]


def _require_known(name: str, known: Sequence[str], option: str) -> None:
    if name not in known:
        others = f"; there are: {', '.join(known) or 'none'}."
        raise LoadTestRefused(
            f"there is no function {name!r}{did_you_mean(name, known) or others}", where=option
        )


def make_promises(
    names: Iterable[str], specs: Mapping[str, DeclaredSpec], given: Mapping[str, ByFunction]
) -> dict[str, Promise]:
    """What each function promises: what is given, else what its declaration says."""
    promises = {}
    for name in names:
        spec = specs.get(name)
        declared = Promise() if spec is None else Promise(**spec.slo.model_dump())
        overrides = {
            part: by_function.get(name, by_function.get(EACH))
            for part, by_function in given.items()
        }
        promises[name] = replace(
            declared, **{part: value for part, value in overrides.items() if value is not None}
        )
    return promises


def make_shape(options: LoadOptions, names: Sequence[str]) -> tuple[LoadShape, float]:
    """When calls are sent, and how much of that is warm-up.

    Raises:
        DeclarationError: the shape cannot be sent.
    """
    kind = options.shape.partition(":")[0]
    warm_up_s = options.warm_up_s
    if warm_up_s is None:
        warm_up_s = WARM_UP_S if kind in _WARMED else 0.0
    default = options.rates.get(EACH, RATE)
    rates = {} if kind == "trace" else {name: options.rates.get(name, default) for name in names}
    seconds = None
    if kind != "trace" or options.seconds is not None:
        seconds = (60.0 if options.seconds is None else options.seconds) + warm_up_s
    recorded = [one for one in options.recorded if one.function in names]
    shape = parse_shape(options.shape, options.shape_options, rates, seconds, recorded)
    return shape, min(warm_up_s, shape.seconds)


def check_length(shape: LoadShape, warm_up_s: float, promises: Mapping[str, Promise]) -> None:
    """Refuse a load test that is too short for what is promised, however it goes.

    Raises:
        LoadTestRefused: a function's calls are too few.
    """
    seconds = shape.seconds - warm_up_s
    rates = shape.average_rates
    for name, promise in promises.items():
        least = shortest_seconds(promise, rates.get(name, 0.0))
        if least > seconds:
            wanted = (
                f"Send for {math.ceil(least)} s at least (`--for {math.ceil(least)}`), or more"
                " calls a second."
                if math.isfinite(least)
                else "It gets no calls: give it a rate."
            )
            raise LoadTestRefused(
                f"{seconds:g} s of {rates.get(name, 0.0):g} calls a second cannot show that"
                f" {_describe(promise)} of {name} holds, even if every call is as it should be."
                f" {wanted}",
                where="--for",
            )


def _describe(promise: Promise) -> str:
    """The promises in words: ``latency_p99_ms: 20``."""
    given = ((one.name, getattr(promise, one.name)) for one in fields(promise))
    return ", ".join(f"`{name}: {value:g}`" for name, value in given if value is not None)


def check_declared(declared: ConfigFile, options: LoadOptions, given: Sequence[GivenCall]) -> None:
    """Refuse what can be known to be wrong before the file is served.

    Raises:
        LoadTestRefused, DeclarationError: it cannot be run as it is asked for.
    """
    specs = {spec.name: spec for spec in declared.functions}
    options = with_recordings(options, specs)
    names = choose_functions(options, given, specs)
    _make_checked_shape(options, names, make_promises(names, specs, options.promises))


def _make_checked_shape(
    options: LoadOptions, names: Sequence[str], promises: Mapping[str, Promise]
) -> tuple[LoadShape, float]:
    """When calls are sent, and the warm-up. A search for the capacity knows by itself how long it
    must send.
    """
    shape, warm_up_s = make_shape(options, names)
    if not options.finds_capacity:
        check_length(shape, warm_up_s, promises)
    return shape, warm_up_s


def make_plan(
    url: str,
    served: Mapping[str, ServedFunction],
    declared: ConfigFile | None,
    options: LoadOptions,
    given: Sequence[GivenCall],
    root: Path,
) -> LoadPlan:
    """The plan of a load test.

    Args:
        declared: the file that is served; None: none is known.
        root: where relative paths of its examples begin.

    Raises:
        LoadTestRefused, DeclarationError: it cannot be run as it is asked for.
    """
    specs = {} if declared is None else {spec.name: spec for spec in declared.functions}
    names = choose_functions(options, given, served)
    promises = make_promises(names, specs, options.promises)
    shape, warm_up_s = _make_checked_shape(options, names, promises)
    return LoadPlan(
        url=url,
        calls=make_calls(names, served, specs, options, given, root),
        forms={name: served[name].form for name in names},
        shape=shape,
        seed=options.seed,
        warm_up_s=warm_up_s,
        promises=promises,
        processes=options.processes,
        connections=options.connections,
        timeout_s=options.timeout_s,
        notes=options.notes,
    )


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
    return {
        name: _recorded_of(served[name], specs.get(name), options, root)
        or _calls_of(served[name], specs.get(name), options, given, root)
        for name in names
    }


def _recorded_of(
    function: ServedFunction, spec: DeclaredSpec | None, options: LoadOptions, root: Path
) -> tuple[LoadCall, ...]:
    """The recorded calls of a function; none where there are none."""
    calls = options.recorded_calls.get(function.name, ())
    needs_example = any(call.omitted for call in calls)
    example = _example(function, spec, root) if needs_example else None
    return make_recorded_calls(function, calls, example)


def _calls_of(
    function: ServedFunction,
    spec: DeclaredSpec | None,
    options: LoadOptions,
    given: Sequence[GivenCall],
    root: Path,
) -> tuple[LoadCall, ...]:
    """The calls that are given for a function, else its example."""
    of = [call for call in given if call.function == function.name]
    if not of:
        of = [GivenCall(function.name, _example(function, spec, root), {}, None)]
    return tuple(
        make_call(
            function,
            one.body,
            wire=options.wire,
            headers=one.headers,
            recorded=one.recorded,
            sequence_calls=options.sequence_calls,
        )
        for one in of
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
