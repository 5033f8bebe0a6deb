"""A load test as it was asked for, made into a plan: everything that is wrong with it is said here,
before any load begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx

from deployments.ingress.tls.clients import NO_FILES, ClientFiles
from deployments.loadtest.arrivals import (
    MOST_CALLS,
    Arrival,
    LoadShape,
    parse_shape,
    read_arrivals,
)
from deployments.loadtest.asking import ask, open_client
from deployments.loadtest.calls.given import sources_of
from deployments.loadtest.calls.recorded import is_capture, read_recordings
from deployments.loadtest.calls.rows import GivenCall, read_calls
from deployments.loadtest.calls.served_functions import ServedFunction, read_functions
from deployments.loadtest.function_calls import make_calls
from deployments.loadtest.generator.open_files import CONNECTIONS, most_connections
from deployments.loadtest.generator.plan import LoadPlan, digest
from deployments.loadtest.load_options import EACH, ByFunction, LoadOptions
from deployments.loadtest.refusal import LoadTestRefused
from deployments.loadtest.results.records import Promise
from deployments.loadtest.results.verdict import PARTS, promised, shortest_seconds
from runtime.declaration.config_file import ConfigFile
from runtime.declaration.function_spec import DeclaredSpec
from runtime.system.messages import did_you_mean

RATE: Final = 10.0
"""Calls a second of each function, where none are given."""

WARM_UP_S: Final = 5.0
"""Of shapes that begin with the rate that they are about."""

_WARMED: Final = frozenset({"steady", "burst"})

ASK_S: Final = 10.0
"""Longest wait for what a server says of its functions."""


def ask_functions(
    url: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    trust: ClientFiles = NO_FILES,
) -> dict[str, ServedFunction]:
    """The functions that a server has. It is asked as it is called: directly, without a proxy of
    the environment.

    Args:
        trust: as of ``open_client``.

    Raises:
        LoadTestRefused: it does not answer, or is no Wakeful.
    """
    try:
        with open_client(url, headers, trust) as client:
            answer = ask(client, "/openapi.json", ASK_S)
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
            " does. Give the address of a `wakeful run` or `wakeful up`, without a path, and with"
            " `--header` what must be shown to be let in.",
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
    traces = [path for path in options.trace if is_capture(path)]
    sent = [path for name, path in options.calls if name == EACH and is_capture(path)]
    if len(options.trace) > 1 and len(traces) < len(options.trace):
        raise LoadTestRefused(
            "several traces are captures, one a function. A CSV file has all functions in one.",
            where="--trace",
        )
    if traces and sent:
        raise LoadTestRefused(
            "captures are given as traces and as calls. Give them as one of the two.",
            where="--calls",
        )
    recording = read_recordings(traces or sent, should_skip=options.should_skip)
    if (traces or sent) and not recording.calls:
        raise LoadTestRefused(
            f"no recorded call can be sent again. {' '.join(recording.notes)}",
            where="--trace" if traces else "--calls",
        )
    if traces:
        arrivals: Sequence[Arrival] = recording.arrivals
    else:
        arrivals = read_arrivals(options.trace[0], set(known)) if options.trace else ()
    return replace(
        options,
        recorded=arrivals,
        recorded_calls=recording.calls,
        notes=(*options.notes, *recording.notes),
        cautions=recording.shares if traces else {},
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
    own_rows = [name for name, _ in options.calls if name != EACH]
    for option, names in (("--rps", by_rate), ("--calls", own_rows)):
        for name in names:
            if name not in named:
                raise LoadTestRefused(
                    f"{name} is given something, and is not loaded. Add `--function {name}`, or"
                    " leave it out.",
                    where=option,
                )
    for part, by_function in options.promises.items():
        option = _flag_of(part)
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
    """What each function promises: what is given, else what its declaration says.

    Raises:
        LoadTestRefused: a percentile is promised to be above a higher one.
    """
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
        _require_order(name, promises[name], overrides)
    return promises


def _require_order(name: str, promise: Promise, given: Mapping[str, float | None]) -> None:
    """Refuse percentiles that contradict each other; declared ones alone were looked at before."""
    latencies = [(part, limit) for part, limit in promised(promise) if part in PARTS]
    for (part, less), (other, more) in pairwise(latencies):
        if less > more:
            flag = part if given.get(part) is not None else other
            raise LoadTestRefused(
                f"{part} {less:g} of {name} is above {other} {more:g}, and a higher percentile is"
                " never shorter. Lower the one or raise the other, here or in the file's `slo`.",
                where=_flag_of(flag),
            )


def _flag_of(part: str) -> str:
    """The option that promises something."""
    return f"--{part.removeprefix('latency_').replace('_', '-')}"


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
    recorded = [one for one in options.recorded if one.function in names]
    seconds = options.seconds
    if seconds is None and kind != "trace":
        seconds = parse_shape(options.shape, options.shape_options, rates, None, recorded).seconds
    whole_s = None if seconds is None else seconds + warm_up_s
    shape = parse_shape(options.shape, options.shape_options, rates, whole_s, recorded)
    if warm_up_s >= shape.seconds:
        raise LoadTestRefused(
            f"the recorded calls take {shape.seconds:.3g} s, and all of them are warm-up. Make it"
            " shorter.",
            where="--warm-up",
        )
    return shape, warm_up_s


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


def check_declared(
    declared: ConfigFile, options: LoadOptions, given: Sequence[GivenCall]
) -> LoadOptions:
    """Refuse what can be known to be wrong before the file is served; returns what is asked for,
    with the recorded calls, which take a while to be read.

    Raises:
        LoadTestRefused, DeclarationError: it cannot be run as it is asked for.
    """
    specs = {spec.name: spec for spec in declared.functions}
    options = with_recordings(options, specs)
    names = choose_functions(options, given, specs)
    _make_checked_shape(options, names, make_promises(names, specs, options.promises))
    return options


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
    check_sequences(shape, options, [served[name] for name in names])
    calls = make_calls(names, served, specs, options, given, root)
    left_out = filter(None, (source.note for source in sources_of(given)))
    return LoadPlan(
        url=url,
        calls=calls,
        forms={name: served[name].form for name in names},
        headers=options.headers,
        shape=shape,
        seed=options.seed,
        warm_up_s=warm_up_s,
        promises=promises,
        processes=options.processes,
        connections=count_connections(options.connections, most_connections()),
        timeout_s=options.timeout_s,
        notes=(
            *options.notes,
            *left_out,
            *_unserved_note(specs, served),
            *_awake_notes(shape, names, specs),
        ),
        cautions=tuple(words for name, words in options.cautions.items() if name in names),
        prices=options.prices,
        sent={name: digest(of) for name, of in calls.items()},
    )


def _unserved_note(
    specs: Mapping[str, DeclaredSpec], served: Mapping[str, ServedFunction]
) -> tuple[str, ...]:
    """Which declared functions are not called, since the server does not have them."""
    unserved = [name for name in specs if name not in served]
    if not unserved:
        return ()
    return (f"declared, and not served, so not called: {', '.join(unserved)}.",)


def check_sequences(
    shape: LoadShape, options: LoadOptions, functions: Sequence[ServedFunction]
) -> None:
    """Refuse calls of sequences that none of the functions has, and more than a run can hold.

    Raises:
        LoadTestRefused: says which.
    """
    count = options.sequence_calls
    made = [one.name for one in functions if one.has_sequences]
    if count > 1 and not made:
        raise LoadTestRefused(
            "no function that is loaded has sequences. Leave it out.", where="--sequence-calls"
        )
    rates = shape.average_rates
    calls = sum(
        rates.get(one.name, 0.0) * shape.seconds * (count if one.has_sequences else 1)
        for one in functions
    )
    if calls > MOST_CALLS:
        raise LoadTestRefused(
            f"that is {calls:,.0f} calls, {MOST_CALLS:,} at most are sent. Lower the rate, or send"
            " for less time.",
            where="--sequence-calls",
        )


def _awake_notes(
    shape: LoadShape, names: Iterable[str], specs: Mapping[str, DeclaredSpec]
) -> tuple[str, ...]:
    """Of a spike, which functions it cannot find asleep."""
    if shape.name != "spike":
        return ()
    quiet, found = shape.options["quiet"], []
    for spec in (specs[name] for name in names if name in specs):
        delay_s = spec.autoscaling.downscale_to_zero_delay_s
        if spec.autoscaling.min_replicas:
            found.append(f"{spec.name} never sleeps (`min_replicas`), so a spike finds it awake.")
        elif delay_s >= quiet:
            found.append(
                f"{spec.name} sleeps after {delay_s:g} s without a call, and a spike comes after"
                f" {quiet:g}: it finds it awake. `--shape spike:quiet={delay_s + 10:g}` waits."
            )
    return tuple(found)


def count_connections(wanted: int | None, most: int) -> int:
    """Connections of a process that sends.

    Args:
        most: that it may have open.

    Raises:
        LoadTestRefused: more are wanted.
    """
    if wanted is not None and wanted > most:
        raise LoadTestRefused(
            f"{wanted:,} connections are asked for, and a process here may have {most:,}"
            " (`ulimit -Hn`, less some files of its own). Give fewer, or send from more processes"
            " (`--processes`).",
            where="--connections",
        )
    return min(CONNECTIONS, most) if wanted is None else wanted
