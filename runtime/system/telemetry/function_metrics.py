"""The counts of functions in Prometheus' text form.

Written here and not by prometheus_client's families, since every process makes the page on the
event loop that answers calls: 200 functions have some 20,000 lines, a tenth of a second there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from runtime.system.telemetry.counters import (
    ROWS,
    SECONDS,
    Distribution,
    FunctionCounters,
    ProcessCounters,
)
from runtime.system.telemetry.key_counts import KeyCounts

MAX_DETAILED: Final = 200
"""Functions that have histograms of their own, unless ``WAKEFUL_METRICS_FUNCTIONS`` says otherwise:
a histogram is 17 series, and a function has five or more of them.
"""

ALL: Final = "*"
"""The label of all functions together; no function's name has such a character."""


class Family(NamedTuple):
    """One metric: its name as Prometheus shows it, its type and what it means."""

    name: str
    kind: str
    text: str


REQUESTS = Family(
    "wakeful_requests_total",
    "counter",
    "Calls over HTTP by `function` and `code`, the status of the answer; 499: the client left"
    " before it, or did not read it.",
)
ERRORS = Family(
    "wakeful_errors_total",
    "counter",
    "Calls that were refused or failed, by `function` and `reason`, the `code` of the answer.",
)
TOTAL_S = Family(
    "wakeful_request_seconds", "histogram", "Seconds of a call, from its head to its answer's end."
)
QUEUE_S = Family(
    "wakeful_queue_seconds", "histogram", "Seconds of a call in which its rows waited."
)
BATCH_S = Family(
    "wakeful_batch_seconds", "histogram", "Seconds of a call in which its batches were made."
)
MODEL_S = Family("wakeful_model_seconds", "histogram", "Seconds of a call in which its models ran.")
BATCH_ROWS = Family("wakeful_batch_rows", "histogram", "Rows of a batch, by `stage`.")
BATCH_VALUES = Family(
    "wakeful_batch_values_total",
    "counter",
    "Values in the inputs of batches whose rows may have different lengths, by `stage`.",
)
PADDING_VALUES = Family(
    "wakeful_padding_values_total", "counter", "Those of them that no row gave, by `stage`."
)
ROWS_TOTAL = Family(
    "wakeful_rows_total", "counter", "Rows accepted, from calls over HTTP and from other functions."
)
WORKER_S = Family(
    "wakeful_worker_seconds_total",
    "counter",
    "Seconds that worker threads have run the function's stages.",
)
HANGS = Family(
    "wakeful_hangs_total",
    "counter",
    "Batches that stages did not return from in the time that the function has.",
)
BYTE_S = Family(
    "wakeful_memory_byte_seconds_total",
    "counter",
    "Bytes that the function has held, times the seconds that it held them.",
)
WAKES = Family("wakeful_function_wakes_total", "counter", "Cold starts by `function`.")
WAKE_S = Family(
    "wakeful_function_wake_seconds_total", "counter", "Seconds of these cold starts together."
)
IN_FLIGHT = Family(
    "wakeful_requests_in_flight", "gauge", "Calls that are accepted and not answered."
)
WAITING = Family("wakeful_rows_waiting", "gauge", "Rows that wait for a worker.")
MEMORY = Family(
    "wakeful_function_memory_bytes", "gauge", "Bytes of memory that a loaded function holds."
)
REPLICAS = Family(
    "wakeful_replicas",
    "gauge",
    "1 in each process that has the function loaded; the sum is the function's replicas.",
)

CAPTURED = Family(
    "wakeful_captured_calls_total", "counter", "Calls that were recorded (`capture`)."
)
CAPTURE_LOST = Family(
    "wakeful_capture_lost_total",
    "counter",
    "Calls that were to be recorded and could not: the disk was full, or too slow.",
)

OTHERS = Family(
    "wakeful_other_requests_total",
    "counter",
    "Requests to `wakeful run` that are no function's calls, by `code`: unknown paths, metadata,"
    " the catalogue's routes.",
)
KEYS = Family(
    "wakeful_key_requests_total",
    "counter",
    "Requests that came with a key, by its name, `key`, and `code`, the class of the answer's"
    " status, 2xx to 5xx; not those that HAProxy has refused.",
)
LOST = Family(
    "wakeful_telemetry_lost_total",
    "counter",
    "Records that were not written, by `of`: access_log, traces (calls).",
)

FAMILIES: Final = (
    REQUESTS, ERRORS, TOTAL_S, QUEUE_S, BATCH_S, MODEL_S, BATCH_ROWS, BATCH_VALUES, PADDING_VALUES,
    ROWS_TOTAL, WORKER_S, HANGS, BYTE_S, WAKES, WAKE_S, IN_FLIGHT, WAITING, MEMORY, REPLICAS,
    CAPTURED, CAPTURE_LOST, OTHERS, KEYS, LOST,
)  # fmt: skip
"""All of them, in the order of the page."""

_HEAD: Final = "# HELP {0.name} {0.text}\n# TYPE {0.name} {0.kind}\n"

_BOUNDS: Final[dict[tuple[float, ...], tuple[str, ...]]] = {
    bounds: (*(f'le="{bound}"' for bound in bounds), 'le="+Inf"') for bounds in (SECONDS, ROWS)
}


def write_metrics(counters: ProcessCounters, max_detailed: int = MAX_DETAILED) -> str:
    """Return the lines of every function that has been called or is loaded.

    Args:
        max_detailed: where there are more functions than this, the histograms are of all of them
            together, with ``*`` as their function.
    """
    functions, now = list(counters), time.monotonic()
    lines: list[str] = []
    for family, samples in _samples(functions, now, is_detailed=len(functions) <= max_detailed):
        lines.append(_HEAD.format(family))
        lines += samples
    lines.append(_HEAD.format(OTHERS))
    others = list(counters.others.items())
    lines += [f'{OTHERS.name}{{code="{code}"}} {count}\n' for code, count in others]
    lines += write_key_metrics(counters.keys)
    lines.append(_HEAD.format(LOST))
    lines += [f'{LOST.name}{{of="{of}"}} {count}\n' for of, count in list(counters.lost.items())]
    return "".join(lines)


def write_key_metrics(keys: KeyCounts) -> list[str]:
    """Return the lines of requests by key."""
    return [
        _HEAD.format(KEYS),
        *(
            f'{KEYS.name}{{key="{_escape(key)}",code="{statuses}"}} {count}\n'
            for key, statuses, count in keys.read()
        ),
    ]


def _samples(
    functions: Sequence[FunctionCounters], now: float, *, is_detailed: bool
) -> Iterator[tuple[Family, Iterable[str]]]:
    named = [(f'function="{f.name}"', f) for f in functions]
    stages = [
        (f'{label},stage="{name}"', stage)
        for label, f in named
        for name, stage in list(f.stages.items())
    ]

    def histogram(
        family: Family, spread: list[tuple[str, Distribution]], bounds: tuple[float, ...], of: str
    ) -> tuple[Family, Iterable[str]]:
        if not is_detailed:
            spread = [(of, _merged((one for _, one in spread), bounds))]
        return family, _histograms(family.name, spread)

    def numbers(family: Family, values: Iterable[tuple[str, float]]) -> tuple[Family, list[str]]:
        return family, [f"{family.name}{{{labels}}} {value}\n" for labels, value in values]

    yield numbers(
        REQUESTS,
        (
            (f'{label},code="{code}"', count)
            for label, f in named
            for code, count in f.calls.codes.items()
        ),
    )
    yield numbers(
        ERRORS,
        (
            (f'{label},reason="{_escape(reason)}"', count)
            for label, f in named
            for reason, count in f.calls.errors.items()
        ),
    )
    every = f'function="{ALL}"'
    yield histogram(TOTAL_S, [(label, f.calls.total_s) for label, f in named], SECONDS, every)
    yield histogram(QUEUE_S, [(label, f.calls.queue_s) for label, f in named], SECONDS, every)
    yield histogram(BATCH_S, [(label, f.calls.batch_s) for label, f in named], SECONDS, every)
    yield histogram(MODEL_S, [(label, f.calls.model_s) for label, f in named], SECONDS, every)
    sizes = [(label, stage.batch_rows) for label, stage in stages]
    yield histogram(BATCH_ROWS, sizes, ROWS, f'{every},stage="{ALL}"')
    padded = [(label, stage) for label, stage in stages if stage.values]
    yield numbers(BATCH_VALUES, ((label, stage.values) for label, stage in padded))
    yield numbers(PADDING_VALUES, ((label, stage.padding) for label, stage in padded))
    yield numbers(ROWS_TOTAL, ((label, f.rows) for label, f in named))
    yield numbers(WORKER_S, ((label, f.worker_s) for label, f in named))
    yield numbers(HANGS, ((label, f.hangs) for label, f in named))
    yield numbers(BYTE_S, ((label, f.byte_seconds(now)) for label, f in named))
    yield numbers(WAKES, ((label, f.wakes) for label, f in named))
    yield numbers(WAKE_S, ((label, f.wake_s) for label, f in named))
    loaded = [(label, f, f.function) for label, f in named if f.function is not None]
    yield numbers(IN_FLIGHT, ((label, function.in_flight.calls) for label, _, function in loaded))
    yield numbers(WAITING, ((label, function.waiting_rows) for label, _, function in loaded))
    yield numbers(MEMORY, ((label, f.memory_bytes) for label, f, _ in loaded))
    yield numbers(REPLICAS, ((label, 1) for label, _, _ in loaded))
    captured = [(label, f) for label, f in named if f.captured or f.capture_lost]
    yield numbers(CAPTURED, ((label, f.captured) for label, f in captured))
    yield numbers(CAPTURE_LOST, ((label, f.capture_lost) for label, f in captured))


def _escape(value: str) -> str:
    """Of a label that is not one of our names (Prometheus' text form)."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _merged(spread: Iterable[Distribution], bounds: tuple[float, ...]) -> Distribution:
    whole = Distribution(bounds)
    for of in spread:
        whole.merge(of)
    return whole


def _histograms(name: str, spread: Iterable[tuple[str, Distribution]]) -> Iterator[str]:
    for labels, of in spread:
        counts = list(accumulate(of.counts))
        if not counts[-1]:
            continue
        for bound, count in zip(_BOUNDS[of.bounds], counts, strict=True):
            yield f"{name}_bucket{{{labels},{bound}}} {count}\n"
        yield f"{name}_sum{{{labels}}} {of.sum}\n{name}_count{{{labels}}} {counts[-1]}\n"
