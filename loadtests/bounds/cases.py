"""The calls: each is one that a stranger could make, as bad as its limits let it be."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from backports import zstd
from PIL import Image

LIMIT: Final = 64 << 20
"""``max_body_bytes`` where nothing else is declared."""
SHORT: Final = 255 << 10
"""A body that is still read on the event loop."""
SIZES: Final = {"256 kB": SHORT, "64 MB": LIMIT - 4096}

Made = Callable[[], bytes]


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        path: below the host.
        body: makes it; None is a GET.
        limit_mb: of the memory that the process may grow by; None: the function's bytes of bodies
            and 64 MB.
        piece: bytes of a chunk where the body is sent in chunks; 0: it has a length.
        sent: share of the body that is sent, then the client leaves.
        by: the replicas of Ray's that answer, by the beginning of their functions' names; empty:
            `wakeful run`.
    """

    name: str
    path: str
    body: Made | None = None
    headers: dict[str, str] = field(default_factory=dict)
    limit_mb: float | None = None
    piece: int = 0
    sent: float = 1.0
    by: str = ""

    @property
    def passes(self) -> tuple[str, ...]:
        """Beginnings of the titles of the processes that it passes. The catalogue is called by GET;
        it works each second, called or not.
        """
        if not self.by:
            return ("",)
        catalogue = ("ServeReplica:catalogue",) if self.body is None else ()
        return ("haproxy", "ProxyActor", f"ServeReplica:{self.by}", *catalogue)

    def json_of(self, body: bytes) -> bytes:
        """The part of the body that is read as JSON, whose parse is apart."""
        if length := self.headers.get("inference-header-content-length", ""):
            return body[: int(length)] if len(length) < 20 and length.isdigit() else b""
        is_json = self.headers.get("content-type", "application/json") == "application/json"
        return body if is_json else b""


def cases() -> Iterator[Case]:
    """All of them, the small ones first."""
    yield from paths()
    yield from heads()
    for of in SIZES:
        yield from texts(of)
        yield from tensors(of)
        yield from forms(of, SIZES[of])
        yield from lines(of, SIZES[of])
    yield from compressed("64 MB", SIZES["64 MB"])
    yield from pictures()
    yield from uploads()
    for by in ("host", "own", "late"):
        yield from by_ray(by)


FEW_JSON: Final = (
    "a long text",
    "large integers",
    "1,000 rows",
    "no JSON",
    "brackets that do not close",
    "a table and back",
    "bytes",
)


def by_ray(by: str) -> Iterator[Case]:
    """What is as large, long or slow as it may be, through HAProxy: to the host, to replicas of its
    own, and to a function without a replica, whose calls wait in Serve's proxy to their deadline.
    """
    calls = [*uploads()]
    if by != "late":
        few = [case for case in texts("64 MB") if case.name.partition(": ")[2] in FEW_JSON]
        calls = [*tensors("64 MB"), *few, *calls, *paths(), *heads()]
    else:
        calls = [replace(c, headers={**c.headers, "x-request-timeout-seconds": "3"}) for c in calls]
    ours = r"^/v2/models/(?=(take|arrays|echo|count|raw)\b)"
    for case in calls:
        path = re.sub(ours, f"/v2/models/{by}-", case.path)
        yield replace(case, name=f"ray, {by}: {case.name}", path=path, by=by)


def paths() -> Iterator[Case]:
    """Of no function, nearly of one, endless, encoded; most are GET."""
    function = "/v2/models/take"
    units = {
        "slashes": "/",
        "segments": "/a",
        "encoded": "%61",
        "encoded slashes": "%2F",
        "dots": "/..",
        "nulls": "%00",
        "no text": "%ff",
        "one segment": "x",
        "unicode": "%E6%97%A5",
    }
    for name, unit in units.items():
        path = unit * (60_000 // len(unit))
        yield Case(f"path: {name}", f"/{path}")
        yield Case(f"path: {name}, below a function", f"{function}/{path}")
        yield Case(f"path: {name}, in a query", f"{function}?{path.replace('/', '&')}=")
        yield Case(f"path: {name}, called", f"{function}/{path}", lambda: b"{}")
    near = (
        "other-0500x othr-0500 ohter-0500 other-05000 tak takee Take x other- oooooooooo 0050-rehto"
    )
    for name in near.split():
        for tail in ("", "/infer", "/versions/1/ready"):
            yield Case(f"path: {name}{tail}", f"/v2/models/{name}{tail}")
    catalogue = "/ /v2 /v2/health/ready /v2/repository/index /metrics /functions/other /v2/models"
    for path in catalogue.split():
        yield Case(f"path: {path}", path)


def heads() -> Iterator[Case]:
    """Headers of every kind."""
    call, long = "/v2/models/take", "9" * 60_000
    yield Case("headers: 5,000", call, lambda: b"{}", {f"x-{n}": "1" for n in range(5000)})
    names = (
        "x-request-id x-request-timeout-seconds x-wakeful-call x-sequence-id content-type accept"
        " traceparent"
    )
    for name in names.split():
        yield Case(f"headers: {name} of 60 kB", call, lambda: b"{}", {name: long})
    accepted = {
        "q-values": ",".join(f"a/{n};q=0.{n}" for n in range(5000)),
        "wildcards": "*/*," * 15_000,
        "commas": "," * 60_000,
        "parameters": "text/event-stream" + ";a=b" * 14_000,
        "long weights": "*/*;q=0." + "1" * 60_000,
    }
    for name, accept in accepted.items():
        yield Case(f"accept: {name}", "/v2/models/count", lambda: b'{"n": 3}', {"accept": accept})
    for name, length in (("a length of 60,000 digits", long), ("3,000 lengths", ",1" * 3000)):
        headers = {"inference-header-content-length": length}
        yield Case(f"headers: {name}", "/v2/models/arrays/infer", lambda: b"{}", headers)


def repeated(form: str, size: int) -> Made:
    """A body of ``BEFORE|UNIT|AFTER`` with so many units as fit. The last loses its comma where an
    end follows; ``%d`` in a unit is its number; ``#`` before them is how many there are.
    """

    def made() -> bytes:
        before, unit, after = (part.encode() for part in form.split("|"))
        if b"%d" in unit:
            units = (unit % number for number in range(size // (len(unit % 1) + 6)))
            return before + b"".join(units).rstrip(b",") + after
        count = (size - len(before) - len(after)) // len(unit)
        body = unit * count
        if after[:1] in b"]}":
            body = body.removesuffix(b",")
        return before.replace(b"#", b"%d" % count) + body + after

    return made


def filled(what: str, path: str, forms: Mapping[str, str], size: int) -> Iterator[Case]:
    """A call of each form."""
    for name, form in forms.items():
        yield Case(f"{what}: {name}", f"/v2/models/{path}", repeated(form, size))


TAKEN: Final = {
    "small integers": '{"items": [|1,|]}',
    "large integers": '{"items": [|1234567,|]}',
    "nulls": '{"items": [|null,|]}',
    "empty arrays": '{"items": [|[],|]}',
    "arrays of one": '{"items": [|[1],|]}',
    "empty objects": '{"items": [|{},|]}',
    "objects of one": '{"items": [|{"a":1},|]}',
    "deep": '{"items": [|' + "[" * 60 + "]" * 60 + ",|]}",
    "a long text": '{"text": "|x|"}',
    "escapes": '{"text": "|\\u00e9|"}',
    "quotes": '{"text": "|\\"|"}',
    "backslashes": '{"text": "|\\\\|"}',
    "brackets in a text": '{"text": "|[|"}',
    "wide text": '{"text": "|日|"}',
    "white space": "{| |}",
    "numbers": '{"numbers": [|0.5,|]}',
    "long numbers": '{"numbers": [|0.12345678901234567,|]}',
    "texts": '{"texts": [|"ab",|]}',
    "empty texts": '{"texts": [|"",|]}',
    "wrong numbers": '{"numbers": [|"a",|]}',
    "wrong texts": '{"texts": [|1,|]}',
    "wrong counts": '{"counts": {|"k%d":"a",|}}',
    "brackets that do not close": "|[|",
    "no JSON": "|x|",
    "no JSON at the end": '{"text": "|x|"',
    "zeros": "|\0|",
    "keys": '{"some": {|"k%d":1,|}}',
    "a key again": '{"n": 1, "n": 1, "some": {|"k%d":1,|}}',
    "unknown fields": '{|"k%d":1,|}',
    "rows": '[|{"n":1},|]',
    "rows of nothing": "[|1,|]",
}
"""JSON for a function of every kind of field, right and wrong."""

TABLES: Final = {
    "words": '{"words": [|"ab",|]}',
    "one long word": '{"words": ["|x|"' + ',""' * 10_000 + "]}",
    "a table": '{"table": [|[0.5,0.5,0.5,0.5],|]}',
    "a narrow table": '{"table": [|[0.5],|]}',
    "a ragged table": '{"table": [|[0.5],|[1,2]]}',
    "a wide table": '{"table": [[|0.5,|]]}',
}


def texts(of: str) -> Iterator[Case]:
    """JSON for functions made for it, and for some that ship with Wakeful."""
    size, what = SIZES[of], f"JSON of {of}"
    long = "x" * (size // 1024)
    rows = {
        "1,000 rows": f'[|{{"text":"{long}"}},|]',
        "1,000 wrong rows": f'[|{{"text":["{long}"]}},|]',
    }
    yield from filled(what, "take", TAKEN | rows, size)
    deep = size // 2
    yield Case(f"{what}: too deep", "/v2/models/take", lambda: b"[" * deep + b"]" * deep)
    yield from filled(what, "arrays", TABLES, size)
    yield from filled(what, "echo", {"a table and back": TABLES["a table"]}, size)
    count = size * 3 // 4 - 64
    yield Case(
        f"{what}: bytes",
        "/v2/models/raw",
        lambda: b'{"data": "%b"}' % base64.b64encode(bytes(count)),
    )
    sales = '{"stock_on_hand": 1, "lead_time_days": 1, "daily_sales": [|9.5,|]}'
    yield from filled(what, "forecast", {"sales": sales}, size)
    few, accents = min(size, 1 << 20), "a" + "\u0301" * 49_000 + "\u0316" * 50_000
    several = '[|{"text":"' + "water " * (few // 6200) + '"},|]'
    text = '{"text": "|water |"}'
    yield from filled(f"text of {of}", "embed", {"embed": text}, min(size, 99_000))
    yield from filled(f"texts of {of}", "embed", {"embed": several}, few)
    yield from filled(f"text of {of}", "embed", {"too long for embed": text}, size)
    body = json.dumps({"text": accents}).encode()
    yield Case(f"text of {of}: accents", "/v2/models/moderate", lambda: body)


TABLE: Final = '"name": "table", "datatype": "FP32", "shape": [1, %d, 1]'
WORDS: Final = '"name": "words", "datatype": "BYTES", "shape": [1, %d]'
HALF: Final = b"\x00\x00\x00?"
TEXT: Final = b"\x02\x00\x00\x00ab"
BINARY: Final = {
    "floats and back": ("echo", TABLE, HALF),
    "floats": ("arrays", TABLE, HALF),
    "short texts": ("arrays", WORDS, TEXT),
    "empty texts": ("arrays", WORDS, bytes(4)),
    "texts by another spelling": ("arrays", WORDS.replace("BYTES", "\\u0042YTES"), TEXT),
    "many rows": ("arrays", TABLE.replace("1, %d, 1", "%d, 1, 1"), HALF),
    "many rows of texts": ("arrays", WORDS.replace("1, %d", "%d, 1"), TEXT),
    "no texts": ("arrays", WORDS, b"\xff" * 64),
    "floats and back in binary": ("echo", TABLE, HALF),
}
"""Tensors: the function, the entry of its only input, and a unit of its data."""

WRITTEN: Final = '{"inputs": [{"name": "table", "datatype": "FP32", "shape": [1, #, 1], "data": '
INFER_JSON: Final = {
    "numbers in JSON": WRITTEN + "[|0.5,|]}]}",
    "nested numbers in JSON": WRITTEN + "[[|[0.5],|]]}]}",
    "no numbers in JSON": WRITTEN + '[|"a",|]}]}',
    "outputs": '{"inputs": [], "outputs": [|{"name":"o%d"},|]}',
}


def binary(length: int) -> dict[str, str]:
    """The headers of a request whose JSON has a length."""
    return {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(length),
    }


def tensor(name: str, of: str, /, **more: Any) -> Case:
    """A request in binary, its only tensor as large as it may be."""
    function, entry, unit = BINARY[name]
    count = (SIZES[of] - 512) // len(unit)
    data = f'"parameters": {{"binary_data_size": {count * len(unit)}}}'
    is_back = str(name.endswith("in binary")).lower()
    wanted = f'"parameters": {{"binary_data_output": {is_back}}}'
    head = f'{{{wanted}, "inputs": [{{{entry % count}, {data}}}]}}'.encode()
    path = f"/v2/models/{function}/infer"
    case = Case(f"/infer of {of}: {name}", path, lambda: head + unit * count, binary(len(head)))
    return replace(case, **more)


def tensors(of: str) -> Iterator[Case]:
    """/infer, in binary and in JSON."""
    size, what = SIZES[of], f"/infer of {of}"
    yield from (tensor(name, of) for name in BINARY)
    yield from filled(what, "arrays/infer", INFER_JSON, size)
    head = repeated('{"inputs": [], "id": "|x|"}', size - 6)
    yield Case(f"{what}: all head", "/v2/models/arrays/infer", head, binary(size - 6))


PART: Final = '--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
OPTIONS: Final = PART.replace('"%s"', '"data"' + "; a=b" * 790)
PARTS: Final = {
    "a file": PART % "data" + "|x|\r\n--B--",
    "lines": PART % "data" + "|\r\n|\r\n--B--",
    "nearly boundaries": PART % "data" + "|\r\n--B\r|\r\n--B--",
    "boundaries": "|\r\n--B\r\n|\r\n--B--",
    "a preamble": "|\r\n--B\r|\r\n--B--",
    "parts of many options": "|" + OPTIONS + "1\r\n|--B--",
    "a long text": PART % "text" + "|x|\r\n--B--",
}
"""Forms in parts for the function ``raw``, whose ``data`` is bytes."""

PAIRS: Final = {
    "percent signs": "text=|%|",
    "percent signs in a name": "|%|=a",
    "escapes": "text=|%41|",
    "escapes and letters": "text=|%41a|",
    "plus signs": "text=|+|",
    "pairs": "|&|",
}
"""Forms in pairs for the function ``take``."""

BLANK: Final = {"blank lines": "|\n|", "spaces": '{"n": 1}\n| |', "rows": '|{"n":1}\n|'}


def typed(media: str, calls: Iterator[Case]) -> Iterator[Case]:
    """The calls with a content type."""
    for case in calls:
        yield replace(case, headers={**case.headers, "content-type": media})


def forms(of: str, size: int) -> Iterator[Case]:
    """In parts and in pairs."""
    parts = filled(f"form of {of}", "raw", PARTS, size)
    yield from typed("multipart/form-data; boundary=B", parts)
    pairs = filled(f"form of {of}", "take", PAIRS, size)
    yield from typed("application/x-www-form-urlencoded", pairs)


def lines(of: str, size: int) -> Iterator[Case]:
    """Lines of JSON, most of which are none."""
    yield from typed("application/x-ndjson", filled(f"lines of {of}", "take", BLANK, size))


PACKED: Final = ("percent signs", "nearly boundaries", "blank lines")


def compressed(of: str, size: int) -> Iterator[Case]:
    """What is large once it is decoded."""
    for case in (*forms(of, size), *lines(of, size)):
        if case.body is not None and case.name.endswith(PACKED):
            headers = {**case.headers, "content-encoding": "zstd"}
            yield replace(case, name=f"zstd, {case.name}", body=packed(case.body), headers=headers)


def packed(body: Made) -> Made:
    """As zstd packs it."""
    return lambda: zstd.compress(body())


def pictures() -> Iterator[Case]:
    """Of as many pixels as are read; and sound."""
    large = (6000, 6600)
    kinds = (
        ("PNG", "RGB", large),
        ("PNG", "P", large),
        ("PNG", "RGBA", large),
        ("JPEG", "RGB", large),
        ("GIF", "P", large),
        ("WEBP", "RGBA", (3600, 2480)),
        ("PNG", "RGB", (30_000, 1300)),
        ("PNG", "L", (1, 40_000)),
    )
    for function, limit_mb in (("classify", None), ("ocr", 600.0)):
        path = f"/v2/models/{function}"
        for kind, mode, size in kinds:
            name = f"{function}: {kind} {mode} {size[0]} x {size[1]}"
            headers = {"content-type": "image/png"}
            yield Case(name, path, picture(kind, mode, size), headers, limit_mb)
        bitmap = {"content-type": "image/bmp"}
        yield Case(f"{function}: noise of 19 MB", path, noise, bitmap, limit_mb)
    headers = {"content-type": "audio/wav", "x-sequence-id": "a", "x-sequence-start": "1"}
    silence = "listen: 8 MB of silence"
    yield Case(silence, "/v2/models/listen", lambda: bytes((8 << 20) - 64), headers)


def picture(kind: str, mode: str, size: tuple[int, int]) -> Made:
    """One of a single colour."""
    fastest: dict[str, Any] = {"quality": 1, "method": 0} if kind == "WEBP" else {}

    def made() -> bytes:
        buffer, colour = io.BytesIO(), 1 if mode in "LP" else "white"
        Image.new(mode, size, colour).save(buffer, kind, **fastest)
        return buffer.getvalue()

    return made


def noise() -> bytes:
    """A bitmap of it."""
    buffer, dice = io.BytesIO(), np.random.default_rng(0)
    Image.fromarray(dice.integers(0, 256, (2000, 3200, 3), np.uint8)).save(buffer, "BMP")
    return buffer.getvalue()


def uploads() -> Iterator[Case]:
    """In chunks, cut off, in the wrong coding."""

    def upload(name: str, size: int, **more: Any) -> Case:
        headers = {"content-type": "application/x-any", **more.pop("headers", {})}
        return Case(f"upload: {name}", "/v2/models/raw", lambda: bytes(size), headers, **more)

    yield upload("as it is", LIMIT)
    yield upload("a byte too many", LIMIT + 1)
    for piece, size in ((1 << 20, LIMIT), (1000, 8 << 20), (1, 50_000)):
        yield upload(f"chunks of {piece}", size, piece=piece)
        yield upload(f"chunks of {piece}, cut off", size, piece=piece, sent=0.9)
    yield upload("chunks beyond the limit", LIMIT + (8 << 20), piece=1 << 20)
    yield upload("cut off", LIMIT, sent=0.9)
    yield tensor("floats", "64 MB", name="upload: tensors, cut off", sent=0.9)
    yield upload("compressed", 1 << 20, headers={"content-encoding": "gzip"})
