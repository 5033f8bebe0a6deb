"""What the console is sent, field by field: plain JSON data. Times are seconds since the epoch.

An event of the stream is a name and one line of JSON::

    event: functions
    data: {"all": true, "functions": [...], "removed": []}

Of each key alone what it sees is in all of it (``runtime.http.catalogue.key_view``).
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from runtime.graph.description.settings import ShownSetting
from runtime.types.json_schemas import JsonSchema

Number = float | None
"""None: nothing was there to be measured."""


class PageSession(TypedDict):
    """``GET console/session``.

    Attributes:
        token: of the page; what changes a function's state carries it as ``x-console-token``.
        version: of Wakeful.
        assets: of the page's files; with another one the page loads itself anew.
        kind: ``run``: ``wakeful run``; ``up``: a cluster.
        can: what the request's key may do; all where no keys are asked for.
        key: the name of the request's key; empty: it has none.
        asks_for_keys: requests need one.
    """

    token: str
    version: str
    assets: str
    kind: Literal["run", "up"]
    can: list[Literal["call", "look", "operate"]]
    key: str
    asks_for_keys: bool


class Wake(TypedDict):
    """A cold start: when it began, how long it took, and of that each phase (``ColdStart``)."""

    at: float
    total_s: float


class Minute(TypedDict):
    """The calls of the last minute (``Traffic``)."""

    calls: int
    calls_per_s: float
    errors: int
    p50_ms: Number
    p95_ms: Number


class EntryNumbers(TypedDict):
    """Of a function in the overview, what changes with each call.

    Attributes:
        hop_ms: what calls of functions in other processes cost, by their names.
        loads: by the processes that have it, since they started.
        errors: of the last minute, by code.
    """

    hop_ms: dict[str, float]
    in_flight: int
    sequences: int
    memory_bytes: int
    last_minute: Minute
    loads: int
    errors: dict[str, int]


class Entry(EntryNumbers):
    """A function in the overview. Of ``wakeful run`` all of it is there as well, as far as it has
    a meaning: ``tier`` is ``run``, ``doing`` and ``last_decision`` are empty.

    Attributes:
        state: ``asleep``, ``waking``, ``ready``, ``draining`` or ``failed``.
        is_quarantined: it has failed for good, until it is changed.
        reason: why it is in that state; of one that is ready, what is amiss with it; or empty.
        tier: ``host`` (the shared host), ``own`` (a deployment of its own) or ``run``.
        url: its path, which is called.
        part_of: the function whose stage it is; empty: it is one of the file.
        kept: it is kept awake for now, by a pin or its hours.
        pinned: it is pinned, which can be taken back.
        doing: what is under way about it, or empty.
        update: what becomes of another version: empty, ``loading``, or why it was not taken.
        version: of what is loaded; empty: nothing is.
        device: what its models run on; None while it is not loaded.
    """

    name: str
    state: Literal["asleep", "waking", "ready", "draining", "failed"]
    is_quarantined: bool
    reason: str
    tier: Literal["host", "own", "run"]
    replicas: int
    url: str
    part_of: str
    description: str
    kept: bool
    pinned: bool
    doing: str
    update: str
    version: str
    device: dict[str, Any] | None
    last_wake: Wake | None
    last_decision: str


class Functions(TypedDict):
    """Event ``functions``: all of them first, in the order of the file, then only those that have
    changed, and the names of those that are gone. A change of state is there within 0.5 s; one of
    numbers alone (calls, bytes) with the next samples.
    """

    all: bool
    functions: list[Entry]
    removed: list[str]


class Sample(TypedDict):
    """A list for each quantity, one value a step. None: no call ended in it."""

    calls_per_s: list[Number]
    p50_ms: list[Number]
    p95_ms: list[Number]
    errors_per_s: list[Number]


Samples = TypedDict(
    "Samples", {"step_s": int, "from": float, "steps": int, "functions": dict[str, Sample]}
)
"""Event ``samples``: at first the last twelve steps, then each as it ends. ``from`` is when the
first of them began, ``steps`` their number. Functions that are not named had no call.
"""


class GpuPart(TypedDict):
    """What a replica has of a GPU."""

    function: str
    num_gpus: float


class Gpu(TypedDict):
    """A GPU that replicas have parts of."""

    id: str
    shares: list[GpuPart]


class Machine(TypedDict):
    """A machine that serves. ``used_bytes`` is what functions hold there, ``budget_bytes`` what
    they may; None: it is not known, or there is no limit. ``processes`` serve functions there.
    """

    id: str
    address: str
    used_bytes: int | None
    budget_bytes: int | None
    cpus: float | None
    processes: int
    gpus: list[Gpu]


class Lack(TypedDict):
    """A promise that a machine's HAProxy does not keep, and what is lost by that, in words."""

    machine: str
    name: str
    lost: str


class ShownServer(TypedDict):
    """Event ``server``: first, and when it has changed. Of a key that opens some functions only,
    there are no machines and no lacks in it.
    """

    kind: Literal["run", "up"]
    machines: list[Machine]
    lacks: list[Lack]


History = TypedDict(
    "History",
    {
        "step_s": int,
        "from": float,
        "calls": list[Number],
        "errors": dict[str, list[Number]],
        "p50_ms": list[Number],
        "p95_ms": list[Number],
        "batch_rows": list[Number],
        "wakes": list[Number],
        "replicas": list[Number],
    },
)
"""What was counted of a function, one value a step; all lists have the same length, 0 where nothing
was counted yet. It is in the details, and as event ``history`` with the new steps, and up to
``feed.AGAIN`` before them again: one that has ended between the details and the stream would be in
neither. None: nothing was there to be measured.

``step_s`` is 10 for the last half hour, 60 for the last six hours; ``from``, when the first step
began; ``errors``, by code; ``batch_rows``, rows of a batch on average; ``wakes``, cold starts;
``replicas``, processes that had it loaded at the end of the step.
"""


class Decision(TypedDict):
    """Why a function is where it is, in words. Of ``wakeful run`` these are the changes of its
    state.
    """

    at: float
    why: str


class FailedCall(TypedDict):
    """A call that was answered with an error. ``id`` is the request's."""

    at: float
    code: str
    status: int
    message: str
    id: str


class LogLine(TypedDict):
    """A line that a function wrote. ``at`` is local time as it is written in the log, and empty of
    a line that goes on with the record before it, as in a traceback; ``kind`` is ``OUT``, ``ERR``
    or a level.
    """

    at: str
    kind: str
    text: str


class Decisions(TypedDict):
    """Event ``decisions``: those that the page has not had yet, all that are known at first."""

    decisions: list[Decision]


class Errors(TypedDict):
    """Event ``errors``, likewise."""

    errors: list[FailedCall]


class Log(TypedDict):
    """Event ``log``: the last lines at first, then those that are written; of more than 300 in a
    second, the last.

    Attributes:
        all: these take the place of what the page has.
        why: why there is no log, in words; empty: there is one.
    """

    all: bool
    lines: list[LogLine]
    why: str


class Closing(TypedDict):
    """Event ``closing``, the last one of a stream. The server ends, or restarts: the page
    reconnects, with growing waits. ``is_moving``: it goes on, and the page reconnects at once,
    without a word to its reader.
    """

    is_moving: bool


class ShownNode(TypedDict):
    """A node of a function's graph.

    Attributes:
        id: ``request``, ``answer``, or the stage's name behind ``stage:``.
        kind: of stages: ``python``, ``model``, or ``function`` (a call of another function).
        label: its name, for people.
        detail: what is known of it, in words where it is not a number; keys that have no meaning
            for it are left out:
            ``what`` (the Python object, the model's file, the called function),
            ``each`` (it runs over the elements of that value), ``when`` (for which rows),
            ``batch`` (what shares a batch, in words), ``split`` (it has a deployment of its own),
            ``runs`` (replicas and resources of a called function), ``calls`` (functions that a
            Python stage calls, in words), ``providers`` (of a model, while it is loaded),
            ``threads``, ``streams`` (what it gives is sent as it is made).
    """

    id: str
    kind: Literal["input", "python", "model", "function", "output"]
    label: str
    detail: dict[str, Any]


Edge = TypedDict("Edge", {"from": str, "to": str, "fields": list[str]})
"""Values that go from one node to another, by name."""


class ConsoleGraph(TypedDict):
    """A function's graph; nodes are in the order of the flow."""

    nodes: list[ShownNode]
    edges: list[Edge]


class Value(TypedDict):
    """A field that a function takes, or a value that it answers.

    Attributes:
        datatype, shape: as in the Open Inference Protocol; -1 for any size.
        type: as `wakeful explain` has it.
    """

    name: str
    datatype: str
    shape: list[int]
    type: str
    optional: bool
    description: str


class FunctionSignature(TypedDict):
    """What a function takes and answers; of one that streams, an item."""

    inputs: list[Value]
    outputs: list[Value]


class FunctionDetails(TypedDict):
    """``GET console/functions/NAME``, with ``?step=60`` for the history of six hours.

    Attributes:
        form: JSON Schema of a JSON request, an object; ``$ref`` is only left in it where a type
            has itself within, and leads nowhere then. Bytes are ``contentEncoding: base64``, with
            ``contentMediaType`` where it is known.
        answer: JSON Schema of what answers it; of a stream, of an item.
        example: a request that is right; None: none is declared, or it is too large.
        takes: media types of a body, ``application/json`` first.
        gives: media type of an answer that is a file; empty: JSON.
        raw_field: the field that a body of another type than JSON fills; empty: there is none.
        headers: of requests that the function reads: whether a request must have it.
        streams: it answers as a stream.
        is_of_sequences: each call belongs to a sequence (``x-sequence-id``).
        task: as declared; None: none is.
        history: None of a stage of another function.
    """

    entry: Entry
    graph: ConsoleGraph | None
    signature: FunctionSignature | None
    form: JsonSchema | None
    answer: JsonSchema | None
    example: dict[str, Any] | None
    takes: list[str]
    gives: str
    raw_field: str
    headers: dict[str, bool]
    streams: bool
    is_of_sequences: bool
    task: str | None
    settings: list[ShownSetting]
    history: History
    decisions: list[Decision]
    errors: list[FailedCall]
