"""Right calls of every kind, of the shipped functions and of those made for it (``stages``): what
is made wrong later begins with one of these.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

import numpy as np

from loadtests import declare, samples
from loadtests.fuzz.values import dump
from runtime.types.tensors import NUMPY

STAGES: Final = "loadtests.fuzz.stages"
BOUNDS: Final = "loadtests.bounds.stages"

Fields = tuple[tuple[bytes, bytes], ...]
JSON: Final = (b"content-type", b"application/json")
BINARY: Final = b"inference-header-content-length"
PNG: Final = base64.b64decode(declare.example("classify")["image"])


@dataclass(frozen=True, slots=True)
class FuzzCall:
    """A request.

    Attributes:
        what: of which kind it is, for people.
        body: None: it has none.
        parts: bytes of a chunk where the body is sent in chunks; 0: it has a length.
    """

    what: str
    method: bytes
    path: bytes
    headers: Fields = ()
    body: bytes | None = None
    parts: int = 0

    def wire(self) -> bytes:
        """As it is sent by HTTP/1.1: with a ``Host``; of a body its length, or chunks."""
        names = {name.lower() for name, _ in self.headers}
        headers = [b"%b: %b" % pair for pair in self.headers]
        if b"host" not in names:
            headers.insert(0, b"Host: fuzz")
        body = self.body or b""
        if self.body is not None and self.parts:
            headers.append(b"Transfer-Encoding: chunked")
            pieces = [body[at : at + self.parts] for at in range(0, len(body), self.parts)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
        elif self.body is not None:
            headers.append(b"Content-Length: %d" % len(body))
        head = b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (self.method, self.path, b"\r\n".join(headers))
        return head + body

    @property
    def has_deadline(self) -> bool:
        """Whether the caller may have said how long it waits, so that 504 is an answer."""
        said = any(b"timeout" in name.lower() for name, _ in self.headers)
        return said or b"timeout" in (self.body or b"")


@dataclass(frozen=True, slots=True)
class Target:
    """A function that is called.

    Attributes:
        rows: right ones.
        types: of a body that is taken as it is.
        tensors: what it takes by the Open Inference Protocol: name, datatype and shape.
        streams: its answer is a stream.
        keeps: its calls are parts of sequences.
        is_slow: a right call takes a tenth of a second and more, so few are made.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    types: Sequence[bytes] = ()
    tensors: Sequence[tuple[str, str, Sequence[int]]] = ()
    streams: bool = False
    keeps: bool = False
    is_slow: bool = False

    @property
    def path(self) -> bytes:
        """Of its calls."""
        return f"/v2/models/{self.name}".encode()


def _own(name: str, stage: str = "", **args: Any) -> declare.Application:
    place = BOUNDS if name in ("take", "echo", "raw", "count") else STAGES
    part = {"stage": stage or name, "python": f"{place}:{stage or name}", **args.pop("part", {})}
    return declare.function(name, [*args.pop("before", ()), part], **args)


_GIVEN: Final = [{"stage": "given", "python": f"{STAGES}:given"}]


OWN: Final[Sequence[tuple[Target, declare.Application]]] = (
    (
        Target(
            "take",
            [
                {"n": 1, "text": "a", "numbers": [0.5, 1], "texts": ["a", ""]},
                {"counts": {"a": 1}, "some": {"a": [None]}, "items": [1, "a", {}]},
            ],
        ),
        _own("take"),
    ),
    (Target("echo", [{"table": [[1.0, 2.0], [3.0, 4.0]]}]), _own("echo")),
    (Target("raw", [{"data": "AAECAw=="}], [b"application/x-any"]), _own("raw", accepts=["*/*"])),
    (Target("count", [{"n": 3}], streams=True), _own("count")),
    (
        Target(
            "typed",
            [
                {"kind": "b", "colour": "blue", "day": "2026-02-28", "at": "2026-02-28T10:00:00Z"},
                {"wait": "PT3S", "number": "1.50", "key": "12345678-1234-5678-1234-567812345678"},
                {"point": {"x": 1.5, "y": 3, "inner": [{"x": 0}]}, "pair": [1, "a"], "some": [1]},
                {"notes": {"title": "a", "tags": {"b": [1]}}, "either": ["a"], "pattern": "abc"},
            ],
        ),
        _own("typed"),
    ),
    (
        Target(
            "tensors",
            [{"table": [[1, 2, 3]], "whole": [1], "flags": [True, False], "names": ["a", "é"]}],
        ),
        _own("tensors"),
    ),
    (
        Target("counted", [{"x": 1.5}], keeps=True),
        _own("counted", sequences={"max_sequences": 64, "idle_timeout_s": 5}),
    ),
    (Target("said", [{"text": "some words to say", "times": 3}], streams=True), _own("said")),
    (
        Target("bits", [{"data": "AAEC"}], [b"audio/x-raw"], streams=True),
        _own("bits", accepts=["audio/*"]),
    ),
    (Target("picture", [{"data": "AAEC", "caption": "b"}]), _own("picture")),
    (Target("headed", [{"text": "a"}]), _own("headed")),
    (
        Target("measured", [{"texts": ["a", "bc", ""]}]),
        _own("measured", part={"each": "given"}, before=_GIVEN),
    ),
    (
        Target("elements", [{"texts": ["a", "bc"]}], streams=True),
        _own("elements", "measured", part={"each": "given", "stream": True}, before=_GIVEN),
    ),
    (Target("refused", [{"n": 2}, {"n": 3}]), _own("refused")),
    (Target("asked", [{"kind": "a"}, {"kind": "z"}]), _own("asked")),
)
"""Functions made for it, each with what it is declared as."""


def shipped() -> list[Target]:
    """The functions that ship with Wakeful."""
    found = []
    for name, args in declare.shipped().items():
        types = [samples.RAW[name].encode()] if name in samples.RAW else []
        rows = [declare.example(name), *samples.MORE.get(name, ())]
        kept, slow = "sequences" in args, name in ("ocr", "highlight")
        found.append(Target(name, rows, types, streams=kept, keeps=kept, is_slow=slow))
    return found


REQUEST_S: Final = 120.0
"""``request_timeout_s`` of all functions: a call of a hundred pictures, beside others on a busy
machine, is no fault, and a 504 is the answer to a caller that has said how long it waits.
"""


def applications() -> list[declare.Application]:
    """All that is served."""
    found = [*map(declare.like, declare.shipped()), *(application for _, application in OWN)]
    for application in found:
        args = application["args"]
        args["limits"] = {**args.get("limits", {}), "request_timeout_s": REQUEST_S}
    return found


def with_tensors(target: Target, metadata: Mapping[str, Any]) -> Target:
    """A target with what its function's metadata says that it takes."""
    inputs = metadata.get("inputs", ())
    return replace(
        target, tensors=[(one["name"], one["datatype"], tuple(one["shape"])) for one in inputs]
    )


def right_call(random: Random, targets: Sequence[Target]) -> tuple[FuzzCall, Any]:
    """A call, and the plain data that its body is the text of; None: it is no JSON alone."""
    if random.random() < 0.12:
        return _beside(random, targets)
    target = random.choice(targets)
    if target.is_slow and random.random() < 0.9:
        target = random.choice(targets)
    makers = [
        _row,
        _row,
        _rows,
        _lines,
        _form,
        _parts,
        _infer,
        _infer,
        _infer_binary,
        _infer_binary,
    ]
    makers += [_raw, _raw, _raw] if target.types else []
    makers += [_stream] if target.streams else []
    call, tree = random.choice(makers)(random, target)
    if target.keeps and random.random() < 0.8:
        call = replace(call, headers=(*call.headers, *_sequence(random)))
    return call, tree


def _row(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    row = random.choice(target.rows)
    return FuzzCall("row", b"POST", target.path, (JSON,), dump(row)), row


def _rows(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    rows = random.choices(target.rows, k=random.choice((0, 1, 2, 2 if target.is_slow else 17)))
    return FuzzCall("rows", b"POST", target.path, (JSON,), dump(rows)), rows


def _lines(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    rows = random.choices(target.rows, k=random.choice((0, 1, 2, 1 if target.is_slow else 9)))
    ends = random.choice((b"\n", b"\r\n", b"\n\n"))
    headers = ((b"content-type", b"application/x-ndjson"),)
    return FuzzCall("lines", b"POST", target.path, headers, ends.join(map(dump, rows))), None


def _form(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    row = random.choice(target.rows)
    body = b"&".join(name.encode() + b"=" + _as_form(value) for name, value in row.items())
    headers = ((b"content-type", b"application/x-www-form-urlencoded"),)
    return FuzzCall("form", b"POST", target.path, headers, body), None


def _as_form(value: Any) -> bytes:
    text = value.encode() if isinstance(value, str) else dump(value)
    return (
        text.replace(b"%", b"%25").replace(b"&", b"%26").replace(b"+", b"%2B").replace(b" ", b"+")
    )


def _parts(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    row, boundary = (
        random.choice(target.rows),
        random.choice((b"b", b"----x'()+_,-./:=?", b"a" * 70)),
    )
    body = b""
    for name, value in row.items():
        is_file = isinstance(value, str) and random.random() < 0.5
        said = b'form-data; name="%b"' % name.encode() + (b'; filename="a.png"' if is_file else b"")
        kind = b"\r\ncontent-type: image/png" if is_file else b""
        content = random.choice((PNG, b"", b"RIFF")) if is_file else _plain(value)
        body += b"--%b\r\ncontent-disposition: %b%b\r\n\r\n%b\r\n" % (boundary, said, kind, content)
    headers = ((b"content-type", b'multipart/form-data; boundary="%b"' % boundary),)
    return FuzzCall("parts", b"POST", target.path, headers, body + b"--%b--\r\n" % boundary), None


def _plain(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else dump(value)


def _raw(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    text = next(iter(target.rows[0].values()))
    contents = [base64.b64decode(text), PNG, b"", random.randbytes(random.choice((1, 99, 70_000)))]
    headers = ((b"content-type", random.choice(target.types)),)
    return FuzzCall("raw", b"POST", target.path, headers, random.choice(contents)), None


def _stream(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    row = random.choice(target.rows)
    accept = random.choice((b"text/event-stream", b"application/x-ndjson", b"application/json"))
    path = target.path + random.choice((b"", b"/generate_stream", b"/generate"))
    return FuzzCall("stream", b"POST", path, (JSON, (b"accept", accept)), dump(row)), row


def _sequence(random: Random) -> Fields:
    headers: Fields = ((b"x-sequence-id", b"s%d" % random.randrange(80)),)
    if random.random() < 0.6:
        headers = (*headers, (b"x-sequence-start", b"1"))
    return (*headers, (b"x-sequence-end", b"1")) if random.random() < 0.5 else headers


def _array(random: Random, datatype: str, shape: Sequence[int]) -> np.ndarray:
    sizes = [random.choice((1, 2, 3)) if size < 0 else size for size in shape]
    count = math.prod(sizes)
    if datatype == "BYTES":
        texts = random.choices([b"some words", b"", "é".encode(), PNG], k=count)
        return np.array(texts, object).reshape(sizes)
    return (np.arange(count) % 2).astype(NUMPY[datatype]).reshape(sizes)


def _tensors(random: Random, target: Target) -> list[tuple[str, str, np.ndarray]]:
    return [(name, kind, _array(random, kind, shape)) for name, kind, shape in target.tensors]


def _parameters(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {},
            {"binary_data_output": True},
            {"timeout": 5_000_000},
            {"sequence_id": "s1", "sequence_start": True, "sequence_end": True},
            {"sequence_id": 7},
            {"priority": 1},
        )
    )


def _request(random: Random, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    request: dict[str, Any] = {"id": "a", "inputs": inputs}
    if parameters := _parameters(random):
        request["parameters"] = parameters
    return request


def _infer(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    inputs = []
    for name, datatype, array in _tensors(random, target):
        values = [
            one.decode("utf-8", "replace") if isinstance(one, bytes) else one
            for one in array.reshape(-1).tolist()
        ]
        data = values if random.random() < 0.8 else array.tolist()
        if datatype == "BYTES":
            data = values
        inputs.append(
            {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}
        )
    request = _request(random, inputs)
    return FuzzCall("infer", b"POST", target.path + b"/infer", (JSON,), dump(request)), request


def _infer_binary(random: Random, target: Target) -> tuple[FuzzCall, Any]:
    inputs, behind = [], b""
    for name, datatype, array in _tensors(random, target):
        if datatype == "BYTES":
            data = b"".join(len(one).to_bytes(4, "little") + one for one in array.reshape(-1))
        else:
            data = array.tobytes()
        inputs.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(data)},
            }
        )
        behind += data
    text = dump(_request(random, inputs))
    headers = (
        (b"content-type", b"application/octet-stream"),
        (BINARY, b"%d" % len(text)),
    )
    return FuzzCall("binary", b"POST", target.path + b"/infer", headers, text + behind), None


TASKS: Final[Sequence[tuple[bytes, Any]]] = (
    (b"/v1/embeddings", {"input": "two words", "model": "embed"}),
    (b"/v1/embeddings", {"input": ["two words", "a"], "encoding_format": "base64", "user": "u"}),
    (b"/v1/embeddings", {"input": [[1, 2]], "dimensions": 384}),
    (b"/v1/rerank", {"query": "a", "documents": ["b", {"text": "c"}], "top_n": 1}),
    (b"/v1/moderations", {"input": ["two words"], "model": "moderate"}),
)

READ: Final = (
    *(b"/", b"/v2", b"/v2/health/live", b"/v2/health/ready", b"/v2/repository/index", b"/metrics"),
    *(
        b"/openapi.json",
        b"/docs",
        b"/docs/docs.js",
        b"/v1/models",
        b"/v1/models/embed",
        b"/v2/models/stats",
    ),
    *(
        b"/functions/embed",
        b"/functions/nothing",
        b"/favicon.ico",
        b"/v2/models/nothing",
        b"/v3",
        b"/v1",
    ),
    *(b"/-/routes", b"/-/healthz", b"/hello/there", b"/v2/models", b"/v2/models/", b"//", b"/*"),
)
"""Paths of the catalogue, and of nothing."""


def _beside(random: Random, targets: Sequence[Target]) -> tuple[FuzzCall, Any]:
    """A call of what is no function's: the routes by task, the catalogue, the repository."""
    target = random.choice(targets)
    match random.randrange(4):
        case 0:
            path, tree = random.choice(TASKS)
            return FuzzCall("task", b"POST", path, (JSON,), dump(tree)), tree
        case 1:
            ends = (b"", b"/ready", b"/config", b"/stats", b"/versions/1", b"/versions/2/ready")
            return FuzzCall("look", b"GET", target.path + random.choice(ends)), None
        case 2:
            names = (b"nothing", b"take", b"..", b"a" * 300)
            name, verb = random.choice(names), random.choice((b"load", b"unload"))
            tree = {"parameters": {"unload_dependents": False}}
            path = b"/v2/repository/models/%b/%b" % (name, verb)
            return FuzzCall("repository", b"POST", path, (JSON,), dump(tree)), tree
        case _:
            return FuzzCall("look", b"GET", random.choice(READ)), None
