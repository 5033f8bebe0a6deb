"""Makes a right call wrong: its values, its bytes, its headers, its path, its method, and how its
body is sent. Framing stays right, so that each call has one answer.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from backports import zstd

from loadtests.fuzz.calls import BINARY, FuzzCall, Target, right_call
from loadtests.fuzz.damage import damaged
from loadtests.fuzz.values import dump, mutated

LONGEST: Final = 200_000
"""Bytes of a body; ``make bounds`` has the long ones."""


def made_call(seed: int, index: int, targets: Sequence[Target]) -> FuzzCall:
    """The call of a number: the same each time, for the same targets."""
    random = Random(f"{seed}:{index}")
    call, tree = right_call(random, targets)
    if random.random() < 0.05:
        return call
    changes = random.choices(CHANGES, WEIGHTS, k=random.choice((1, 1, 1, 2, 3)))
    for change in changes:
        call, tree = change(random, call, tree)
    if call.body is not None and len(call.body) > LONGEST:
        call = replace(call, body=call.body[:LONGEST])
    return call


Change = Callable[[Random, FuzzCall, Any], tuple[FuzzCall, Any]]


def _values(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    """Other values in JSON, or in the JSON in front of tensors."""
    if tree is None:
        return _bytes(random, call, tree)
    changed = mutated(random, tree)
    return replace(call, body=dump(changed)), None


def _bytes(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    """Other bytes, whatever they are of."""
    return replace(call, body=damaged(random, call.body or b"")), None


def _header(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    """A header with another value, once more, or none."""
    name = random.choice(list(HEADERS))
    value = random.choice(HEADERS[name])
    headers = list(call.headers)
    places = [index for index, pair in enumerate(headers) if pair[0].lower() == name]
    if places and random.random() < 0.8:
        del headers[places[0]]
    if random.random() < 0.95:
        headers.insert(random.randint(0, len(headers)), (name, value))
    return replace(call, headers=tuple(headers)), tree


def _length(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    """Another length of the JSON in front of tensors."""
    said = next((value for name, value in call.headers if name == BINARY), b"")
    length = int(said) if said.isdigit() else len(call.body or b"")
    value = random.choice((length - 1, length + 1, 0, -1, 2 * length, 2**63, length))
    headers = (*(pair for pair in call.headers if pair[0] != BINARY), (BINARY, b"%d" % value))
    return replace(call, headers=headers), tree


_LONG_GZIP: Final = gzip.compress(b" " * 5_000_000, mtime=0)
_LONG_ZSTD: Final = zstd.compress(b"[" * 5_000_000)


def _encoded(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    """Compressed, rightly or not."""
    body = call.body or b""
    name, packed = random.choice(
        (
            (b"gzip", gzip.compress(body, mtime=0)),
            (b"x-gzip", gzip.compress(body, mtime=0)),
            (b"deflate", zlib.compress(body)),
            (b"zstd", zstd.compress(body)),
            (b"gzip", body),
            (b"zstd", gzip.compress(body, mtime=0)),
            (b"br", body),
            (b"gzip, gzip", gzip.compress(body, mtime=0)),
            (b"identity", body),
            (b"gzip", _LONG_GZIP),
            (b"zstd", _LONG_ZSTD),
        )
    )
    if random.random() < 0.3:
        packed = packed[: random.randint(0, len(packed))]
    headers = (*call.headers, (b"content-encoding", name))
    return replace(call, headers=headers, body=packed), None


def _path(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    """The path spelt otherwise, longer, or of something else."""
    path = bytearray(call.path)
    at = random.randint(1, len(path))
    match random.randrange(8):
        case 0:
            path[at:at] = random.choice(
                (b"%2e", b"%2F", b"%00", b"%", b"%zz", b"//", b"/../", b"/.")
            )
        case 1:
            path += random.choice(
                (b"/", b"/infer", b"/versions/1", b"/versions/-1", b"/versions/1/infer")
            )
        case 2:
            path += random.choice((b"?", b"?a=b", b"?text=a&text=b", b"?%00", b"#a", b";a=b"))
        case 3:
            path[at : at + 1] = b""
        case 4:
            path += b"/" + b"a" * random.choice((1, 255, 3000))
        case 5:
            path[at - 1 : at] = b"%%%02X" % path[at - 1]
        case 6:
            path[at:at] = "é日".encode() if random.random() < 0.3 else b"%C3%A9"
        case _:
            path = bytearray(
                random.choice((b"/v2/models/take", b"/v2/models/embed/infer", b"/v1/embeddings"))
            )
    return replace(call, path=bytes(path).replace(b" ", b"%20")), tree


def _method(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    methods = (
        b"GET",
        b"HEAD",
        b"PUT",
        b"DELETE",
        b"PATCH",
        b"OPTIONS",
        b"POST",
        b"TRACE",
        b"PROPFIND",
    )
    return replace(call, method=random.choice(methods)), tree


def _chunked(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    size = random.choice((1, 7, 100, 65_536)) if len(call.body or b"") < 3000 else 9000
    return replace(call, parts=size), tree


def _sent_again(random: Random, call: FuzzCall, tree: Any) -> tuple[FuzzCall, Any]:
    """The body behind itself, as lines that are no lines."""
    body = call.body or b""
    return replace(call, body=random.choice((b"", b"\n", b",", b" ")).join([body] * 2)), None


CHANGES: Final[Sequence[Change]] = (
    *(_values, _bytes, _header, _length, _encoded, _path, _method, _chunked, _sent_again),
)
WEIGHTS: Final = (40, 14, 22, 4, 5, 5, 3, 4, 2)

HEADERS: Final[Mapping[bytes, Sequence[bytes]]] = {
    b"content-type": (
        *(
            b"",
            b"application/json",
            b"application/json; charset=utf-16",
            b"text/plain",
            b"a/b",
            b"json",
        ),
        *(b"application/x-ndjson", b"application/x-www-form-urlencoded", b"multipart/form-data"),
        *(b"multipart/form-data; boundary=", b"multipart/form-data; boundary=b; boundary=c"),
        *(b'multipart/form-data; boundary="' + b"a" * 300 + b'"', b"multipart/mixed; boundary=b"),
        *(b"multipart/form-data; boundary*=utf-8''b", b'multipart/form-data; boundary="\\"b"'),
        *(b"image/png", b"image/svg+xml", b"image/gif", b"audio/wav", b"application/octet-stream"),
        *(
            b"application/x-wakeful-rows",
            b"*/*",
            b"application/json,text/html",
            b";;;",
            b"\xff/\xfe",
        ),
        *(
            b"application/JSON ; a=b",
            b"a" * 3000,
            b"application/vnd.wakeful.rows",
            b"text/event-stream",
        ),
    ),
    b"accept": (
        *(b"", b"*/*", b"text/event-stream", b"application/x-ndjson", b"image/png", b"image/*;q=0"),
        *(b"application/json;q=0", b"a/b", b"*/*;q=nan", b"*/*;q=1e9", b"text/html,*/*;q=0.8"),
        *(
            b",,,",
            b"application/octet-stream",
            b"\xff",
            b"a" * 3000,
            b"application/json;q=0.1, */*",
        ),
    ),
    b"accept-encoding": (b"gzip", b"br;q=1, *;q=0", b"identity;q=0", b"\0x"[1:]),
    b"range": (
        b"bytes=0-3",
        b"bytes=-1",
        b"bytes=5-2",
        b"bytes=0-0,2-2",
        b"bytes=99999999999-",
        b"lines=1",
    ),
    b"if-range": (b'"a"', b"Wed, 21 Oct 2015 07:28:00 GMT"),
    b"x-request-timeout-seconds": (
        *(
            b"0",
            b"-1",
            b"nan",
            b"inf",
            b"1e309",
            b"0xff",
            b"0.000001",
            b"0.01",
            b"5",
            b"",
            b"\xff",
            b"1,2",
        ),
    ),
    b"x-request-id": (b"", b"a" * 200, b"\xff\xfe", b"a\tb", b"{}", b'"', b"%0d%0a", b"../x"),
    b"traceparent": (
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        *(b"00-0-0-0", b"ff-", b"", b"a" * 3000, b"\xff"),
    ),
    b"x-sequence-id": (b"", b"s1", b"a" * 200, b"\xff", b"0", b"-1", b"s1,s2"),
    b"x-sequence-start": (b"1", b"true", b"2", b"", b"yes", b"\xff"),
    b"x-sequence-end": (b"1", b"0", b"True", b"x"),
    BINARY: (
        b"0",
        b"-1",
        b"abc",
        b"1e3",
        b"99999999999999999999",
        b" 5",
        b"+5",
        b"0x5",
        b"5, 5",
        b"\xff",
    ),
    b"origin": (b"null", b"http://evil.test", b"", b"\xff", b"a" * 3000),
    b"access-control-request-method": (b"POST", b"", b"\xff"),
    b"authorization": (b"Bearer wk_", b"Basic \xff", b"Bearer", b""),
    b"x-api-key": (b"wk_" + b"a" * 43, b"", b"\xff"),
    b"host": (b"", b"a:b:c", b"[::1", b"a" * 300, b"evil.test", b"localhost:99999"),
    b"expect": (b"100-continue", b"200-ok", b""),
    b"connection": (b"keep-alive", b"close", b"upgrade", b"content-type", b""),
    b"upgrade": (b"h2c", b"websocket"),
    b"x-wakeful-internal": (b"", b"a", b"\xff"),
    b"x-wakeful-function": (b"take", b"\xff", b""),
    b"x-wakeful-call": (b"1-1", b"99999999999999999-9", b"\xff", b"-"),
    b"x-wakeful-sequence": (b"1", b"a", b"\xff"),
    b"x-wakeful-timeout-seconds": (b"5", b"nan"),
    b"x-forwarded-for": (b"127.0.0.1", b"\xff"),
    b"x-forwarded-proto": (b"https", b"javascript:", b"\xff"),
    b"forwarded": (b"for=127.0.0.1", b"\xff"),
    b"cookie": (b"a=b", b"a" * 4000),
    b"user-agent": (b"", b"a" * 3000, b"\xff"),
    b"x-name": (b"", b"\xff\xfe", b"a" * 4000),
    b"x-level": (b"1", b"a", b"1e5", b"9" * 400, b"\xff"),
}
"""Values of headers, all of which HTTP can carry."""
