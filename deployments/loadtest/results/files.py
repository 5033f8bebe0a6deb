"""A run on disk: ``run.json``, which is read again, and ``calls.csv`` for other tools.

``run.json`` has a column for each attribute of a call instead of an object for each call: 45 to 70
bytes a call where objects take 300. Times are whole microseconds; a call's are told from its
``intended``, and that from the ``intended`` before it. What a server may name freely (codes of
errors, stages) is bounded, so a hostile one makes no file that cannot be read.

    {"wakeful_run": 1, "url": …, "shape": …, …,
     "functions": ["embed"], "outcomes": [[200, ""], [429, "overloaded"]],
     "calls": {"function": [0, 0], "intended_us": [120, 4100], "sent_us": [90, 85],
               "done_us": [3100, 2950], "outcome": [0, 1], "is_warm": [true, null],
               "first_us": [], "bytes_out": [61, 80], "stages_us": {"model": [2100, null]}},
     "server": {"at": […], "function": […], …}, "generator": {"at": […], …}}

A column of which no call has a value is empty.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deployments.loadtest.results.records import (
    CallRecord,
    GeneratorSample,
    Promise,
    Run,
    ServerSample,
)
from runtime.errors import DeclarationError, Problem
from runtime.system.files import did_you_mean_file, make_temporary_folder, put_in_place
from runtime.system.messages import quote

RUN_FILE: Final = "run.json"
CALLS_FILE: Final = "calls.csv"

FORM: Final = 1
"""The version of ``run.json``, in its first key."""

MOST_CALLS: Final = 5_000_000
"""Of a run. A plan of which four million are to be expected is refused before its load begins
(``arrivals.shapes``).
"""

MOST_BYTES: Final = 512 << 20
"""Of a file that is read: ``MOST_CALLS`` with every column."""

MOST_OUTCOMES: Final = 500
"""Pairs of status and code that are told apart, the most frequent; others keep their status."""

MOST_STAGES: Final = 20
"""Parts of a server that are told apart, the most frequent ones."""

LONGEST_NAME: Final = 120
"""Characters of a code or stage that are kept."""

MOST_PROBLEMS: Final = 10
"""A damaged file is wrong in every row; ten are enough to show it."""

OTHER_CODE: Final = "other"

_T = TypeVar("_T")
_Micro = Annotated[int, Field(ge=-(10**13), le=10**13)]
_Index = Annotated[int, Field(ge=0)]


def write_run(run: Run, folder: Path) -> None:
    """Writes ``run.json`` and ``calls.csv``; each is the old or the new one, whole.

    Args:
        folder: is made where it is missing.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
        ValueError: the run has more than ``MOST_CALLS`` calls.
    """
    if len(run.calls) > MOST_CALLS:
        raise ValueError(f"{len(run.calls)} calls are too many for a file; {MOST_CALLS} at most")
    with make_temporary_folder(folder) as partial:
        (partial / RUN_FILE).write_bytes(_encode(run))
        with (partial / CALLS_FILE).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_csv_rows(run))
        for name in (CALLS_FILE, RUN_FILE):
            put_in_place(partial / name, folder / name)


def read_run(path: Path) -> Run:
    """A run that ``write_run`` wrote.

    Args:
        path: of ``run.json``, or of its folder.

    Raises:
        DeclarationError: there is none, it is of another program or version, or it is damaged; says
            where.
    """
    file = path / RUN_FILE if path.is_dir() else path
    content = _parse(file)
    if not isinstance(content, dict) or "wakeful_run" not in content:
        raise _refusal(
            file,
            "wakeful_run",
            "this JSON is of another program: a run has 'wakeful_run' as its first key. Give the"
            f" {RUN_FILE} that `wakeful loadtest` wrote.",
        )
    if content["wakeful_run"] != FORM or isinstance(content["wakeful_run"], bool):
        raise _refusal(
            file,
            "wakeful_run",
            f"the form of this run is {quote(content['wakeful_run'])}, and this Wakeful reads"
            f" {FORM}. Run the load test again with it, or read the run with the Wakeful that wrote"
            " it.",
        )
    try:
        return _RunFile.model_validate(content).to_run()
    except ValidationError as error:
        raise DeclarationError(
            [
                Problem(
                    str(file),
                    0,
                    _key(fault["loc"]),
                    f"{fault['msg'].removeprefix('Value error, ')}. {DAMAGED}",
                )
                for fault in error.errors(include_url=False, include_input=False)[:MOST_PROBLEMS]
            ]
        ) from error


DAMAGED: Final = "The file was changed or is damaged; run the load test again."


def _parse(file: Path) -> Any:
    try:
        with file.open("rb") as handle:
            text = handle.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise _refusal(file, "", f"there is no such file{did_you_mean_file(file)}") from error
    except OSError as error:
        raise _refusal(file, "", f"it cannot be read: {error.strerror or error}") from error
    if len(text) > MOST_BYTES:
        raise _refusal(file, "", f"it has more than {MOST_BYTES >> 20} MiB; no run is so large.")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.pos >= len(text.decode(errors="replace").rstrip()):
            what = f"it ends in the middle, after {len(text)} bytes: it was not written whole."
        else:
            what = f"it is no JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        raise _refusal(file, "", f"{what} Run the load test again.") from error


def _refusal(file: Path, key: str, message: str) -> DeclarationError:
    return DeclarationError([Problem(str(file), 0, key, message)])


def _key(location: Sequence[str | int]) -> str:
    """``calls.done_us[3]`` of what pydantic says."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location
    ).removeprefix(".")


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Calls(_Part):
    function: list[_Index]
    intended_us: list[_Micro]
    sent_us: list[_Micro]
    done_us: list[_Micro]
    outcome: list[_Index]
    is_warm: list[bool | None]
    first_us: list[_Micro | None]
    bytes_out: list[_Index]
    stages_us: dict[str, list[_Micro | None]]

    @model_validator(mode="after")
    def _have_one_length(self) -> _Calls:
        _refuse_uneven(
            {
                **{name: getattr(self, name) for name in NEEDED},
                **{name: column for name in OPTIONAL if (column := getattr(self, name))},
                **{f"stages_us.{name}": column for name, column in self.stages_us.items()},
            }
        )
        return self


NEEDED: Final = ("function", "intended_us", "sent_us", "done_us", "outcome")
OPTIONAL: Final = ("is_warm", "first_us", "bytes_out")


class _Server(_Part):
    at: list[float]
    function: list[str]
    replicas: list[int]
    waiting_rows: list[int]
    state: list[str]
    wakes: list[int]
    batches: list[int]
    rows: list[int]
    busy_s: list[float]
    memory_bytes: list[int]

    @model_validator(mode="after")
    def _have_one_length(self) -> _Server:
        _refuse_uneven(dict(self))
        return self


class _Generator(_Part):
    at: list[float]
    lag_s: list[float]
    cpu: list[float]
    in_flight: list[int]

    @model_validator(mode="after")
    def _have_one_length(self) -> _Generator:
        _refuse_uneven(dict(self))
        return self


def _refuse_uneven(columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns of one table have one length."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        (usual, _), *_ = Counter(lengths.values()).most_common()
        name, length = next(item for item in lengths.items() if item[1] != usual)
        raise ValueError(f"{name} has {length} rows where the other columns have {usual}")


class _Promise(_Part):
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    success: float | None = None
    warm: float | None = None


class _RunFile(_Part):
    wakeful_run: Literal[1]
    url: str
    shape: str
    rates: dict[str, float]
    seconds: float
    warm_up_s: float
    seed: int
    started: float
    machine: dict[str, str]
    promises: dict[str, _Promise]
    cpu_s: float | None
    was_limited: str
    is_partial: bool
    notes: list[str]
    cautions: list[str] = []
    prices: dict[Literal["cpu", "memory"], float] = {}
    sent: dict[str, str] = {}
    functions: list[str]
    outcomes: list[Annotated[tuple[int, str], Field(strict=False)]]  # JSON has lists alone
    calls: _Calls
    server: _Server
    generator: _Generator

    @model_validator(mode="after")
    def _point_at_names(self) -> _RunFile:
        """Numbers of functions and outcomes are of names that there are."""
        for column, names in (("function", self.functions), ("outcome", self.outcomes)):
            highest = max(getattr(self.calls, column), default=-1)
            if highest >= len(names):
                raise ValueError(f"calls.{column} has {highest} where {len(names)} are named")
        return self

    def to_run(self) -> Run:
        return Run(
            **{name: getattr(self, name) for name in PLAIN},
            promises={name: Promise(**dict(told)) for name, told in self.promises.items()},
            calls=list(_calls_of(self)),
            server=[ServerSample(*row) for row in _rows(self.server, ServerSample._fields)],
            generator=[
                GeneratorSample(*row) for row in _rows(self.generator, GeneratorSample._fields)
            ],
        )


PLAIN: Final = (
    *("url", "shape", "rates", "seconds", "warm_up_s", "seed", "started", "machine"),
    *("cpu_s", "was_limited", "is_partial", "notes", "cautions", "prices", "sent"),
)
"""Attributes of a run that are in the file as they are."""


def _rows(table: _Part, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(getattr(table, name) for name in names), strict=True)


def _calls_of(file: _RunFile) -> Iterator[CallRecord]:
    calls = file.calls
    count = len(calls.function)
    nothing = [None] * count
    stages: Iterable[Mapping[str, float]] = (
        _stages_of(calls.stages_us) if calls.stages_us else [{}] * count
    )
    at = 0
    rows = zip(
        *(calls.function, calls.intended_us, calls.sent_us, calls.done_us, calls.outcome),
        *(calls.is_warm or nothing, calls.first_us or nothing, calls.bytes_out or [0] * count),
        stages,
        strict=True,
    )
    for function, step, sent, done, outcome, is_warm, first, bytes_out, parts in rows:
        at += step
        status, code = file.outcomes[outcome]
        yield CallRecord(
            file.functions[function],
            at / 1e6,
            (at + sent) / 1e6,
            (at + done) / 1e6,
            status,
            code,
            is_warm,
            None if first is None else (at + first) / 1e6,
            parts,
            bytes_out,
        )


def _stages_of(columns: Mapping[str, Sequence[int | None]]) -> Iterator[Mapping[str, float]]:
    names = list(columns)
    for row in zip(*columns.values(), strict=True):
        yield {
            name: value / 1e6 for name, value in zip(names, row, strict=True) if value is not None
        }


def _encode(run: Run) -> bytes:
    functions = _numbered(call.function for call in run.calls)
    known = _most_frequent(((call.status, call.code) for call in run.calls), MOST_OUTCOMES)
    told = [
        (call.status, _plain_text(call.code) if (call.status, call.code) in known else OTHER_CODE)
        for call in run.calls
    ]
    outcomes = _numbered(told)
    return orjson.dumps(
        {
            "wakeful_run": FORM,
            **{name: getattr(run, name) for name in PLAIN},
            "rates": dict(run.rates),
            "machine": dict(run.machine),
            "notes": list(run.notes),
            "cautions": list(run.cautions),
            "prices": dict(run.prices),
            "sent": dict(run.sent),
            "promises": {name: asdict(promise) for name, promise in run.promises.items()},
            "functions": list(functions),
            "outcomes": list(outcomes),
            "calls": {
                "function": [functions[call.function] for call in run.calls],
                **_times(run.calls),
                "outcome": [outcomes[outcome] for outcome in told],
                "is_warm": _column([call.is_warm for call in run.calls], None),
                "bytes_out": _column([call.bytes_out for call in run.calls], 0),
                "stages_us": _stage_columns(run.calls),
            },
            "server": _table(run.server, ServerSample._fields),
            "generator": _table(run.generator, GeneratorSample._fields),
        }
    )


def _plain_text(text: str) -> str:
    """Bounded, and without halves of characters, which JSON cannot carry."""
    return text[:LONGEST_NAME].encode(errors="backslashreplace").decode()


def _most_frequent(values: Iterable[_T], most: int) -> set[_T]:
    return {value for value, _ in Counter(values).most_common(most)}


def _numbered(values: Iterable[_T]) -> dict[_T, int]:
    """Each value with its number, in the order of their first appearance."""
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def _times(calls: Sequence[CallRecord]) -> dict[str, list[Any]]:
    intended = [_micro(call.intended) for call in calls]
    first = [
        None if call.first is None else _micro(call.first) - at
        for call, at in zip(calls, intended, strict=True)
    ]
    return {
        "intended_us": [
            at - before for at, before in zip(intended, [0, *intended[:-1]], strict=False)
        ],
        "sent_us": [_micro(call.sent) - at for call, at in zip(calls, intended, strict=True)],
        "done_us": [_micro(call.done) - at for call, at in zip(calls, intended, strict=True)],
        "first_us": _column(first, None),
    }


def _stage_columns(calls: Sequence[CallRecord]) -> dict[str, list[int | None]]:
    names = _most_frequent((name for call in calls for name in call.stages), MOST_STAGES)
    return {
        _plain_text(name): [
            None if (value := call.stages.get(name)) is None else _micro(value) for call in calls
        ]
        for name in sorted(names)
    }


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)


def _column(values: list[Any], default: Any) -> list[Any]:
    """Empty where every row has the default."""
    return values if any(value != default for value in values) else []


def _table(rows: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    columns: list[Any] = list(map(list, zip(*rows, strict=True))) or [[] for _ in names]
    return dict(zip(names, columns, strict=True))


def _csv_rows(run: Run) -> Iterator[Sequence[Any]]:
    names = sorted(
        _most_frequent((name for call in run.calls for name in call.stages), MOST_STAGES)
    )
    yield [
        *("function", "intended_s", "sent_s", "done_s", "latency_ms", "status", "code", "is_warm"),
        *("first_s", "bytes_out"),
        *(_cell(f"{name}_ms") for name in names),
    ]
    for call in run.calls:
        yield [
            _cell(call.function),
            *(f"{at:.6f}" for at in (call.intended, call.sent, call.done)),
            f"{call.latency_s * 1e3:.3f}",
            call.status,
            _cell(call.code),
            "" if call.is_warm is None else int(call.is_warm),
            "" if call.first is None else f"{call.first:.6f}",
            call.bytes_out,
            *(
                "" if (seconds := call.stages.get(name)) is None else f"{seconds * 1e3:.3f}"
                for name in names
            ),
        ]


def _cell(text: str) -> str:
    """A text as a spreadsheet takes it for a text: what begins like a formula gets a quote, since a
    server may name its errors as it likes.
    """
    plain = json.dumps(_plain_text(text), ensure_ascii=False)[1:-1]
    return f"'{plain}" if plain.startswith(("=", "+", "-", "@")) else plain
