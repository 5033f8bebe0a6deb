"""Calls in each of which something has a name that no call before it had: functions, fields, ids,
sequences, keys, browsers, origins, traces, hosts. What a server keeps by a caller's word would grow
with them: series of metrics, lines of logs, entries of tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from loadtests.fuzz.calls import JSON, Fields, FuzzCall
from loadtests.fuzz.values import dump

SERIES_MORE: Final = 40
"""Series of metrics that may come with the first errors of each kind, of all functions."""

LOG_BYTES_A_CALL: Final = 120.0
"""What a call may add to all logs, on the average: ten lines a second have words of their own."""

_TAKE: Final = b"/v2/models/take"


def named_call(seed: int, index: int) -> FuzzCall:
    """The call of a number: the same each time."""
    random = Random(f"names:{seed}:{index}")
    word = f"{index:x}{random.randbytes(random.choice((3, 3, 3, 40))).hex()}".encode()
    return random.choice(_MADE)(word)


def _posted(path: bytes, tree: object, *headers: tuple[bytes, bytes]) -> FuzzCall:
    return FuzzCall("named", b"POST", path, (JSON, *headers), dump(tree))


def _got(path: bytes, *headers: tuple[bytes, bytes]) -> FuzzCall:
    return FuzzCall("named", b"GET", path, headers)


def _tensor(name: str) -> dict[str, object]:
    return {"inputs": [{"name": name, "datatype": "INT64", "shape": [1], "data": [1]}]}


def _with_header(name: bytes) -> Callable[[bytes], FuzzCall]:
    def made(word: bytes) -> FuzzCall:
        return _posted(_TAKE, {"n": 1}, (name, word))

    return made


def _in_sequence(word: bytes) -> FuzzCall:
    headers: Fields = ((b"x-sequence-id", word), (b"x-sequence-start", b"1"))
    return _posted(b"/v2/models/counted", {"x": 1}, *headers)


_MADE: Final[Sequence[Callable[[bytes], FuzzCall]]] = (
    lambda word: _posted(b"/v2/models/%b" % word, {}),
    lambda word: _posted(b"/v2/models/%b/infer" % word, _tensor("x")),
    lambda word: _posted(_TAKE + b"/" + word, {}),
    lambda word: _posted(_TAKE, {word.decode(): 1}),
    lambda word: _posted(_TAKE + b"/infer", _tensor(word.decode())),
    lambda word: _posted(_TAKE + b"/infer", {"id": word.decode()[:100], **_tensor("n")}),
    lambda word: _posted(b"/v1/embeddings", {"model": word.decode(), "input": "a"}),
    lambda word: _posted(b"/v1/moderations", {word.decode(): "a", "input": "a"}),
    lambda word: _posted(b"/v2/repository/models/%b/load" % word, {}),
    lambda word: _posted(b"/v2/repository/models/take/unload", {"parameters": {word.decode(): 1}}),
    lambda word: _got(b"/functions/%b" % word),
    lambda word: _got(b"/%b" % word),
    lambda word: _got(b"/docs/%b" % word),
    lambda word: _got(b"/v2/models/take?%b=1" % word),
    lambda word: _got(b"/", (b"origin", b"http://%b.test" % word)),
    lambda word: _got(b"/v2/health/live", (b"host", b"%b.test" % word)),
    lambda word: _got(b"/v2", (b"user-agent", word)),
    lambda word: FuzzCall("named", b"POST", _TAKE, ((b"content-type", b"a/%b" % word),), b"{}"),
    lambda word: _posted(_TAKE, {"n": 1}, (b"accept", b"a/%b, application/json" % word)),
    lambda word: _posted(
        _TAKE, {"n": 1}, (b"traceparent", b"00-%032x-%016x-01" % (hash_of(word), 7))
    ),
    *(
        _with_header(name)
        for name in (
            *(b"x-request-id", b"user-agent", b"origin", b"authorization", b"x-api-key", b"cookie"),
            *(b"x-forwarded-for", b"forwarded", b"referer", b"x-wakeful-key", b"x-wakeful-call"),
        )
    ),
    lambda word: _posted(_TAKE, {"n": 1}, (b"x-%b" % word, b"1")),
    _in_sequence,
    _in_sequence,
)


def hash_of(word: bytes) -> int:
    """A number of a word, the same in every process."""
    return int.from_bytes(word[:15], "big") + 1
