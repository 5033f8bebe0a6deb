from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import FunctionError, MalformedBody, TooLarge
from runtime.protocol import json_text
from runtime.protocol.json_text import MAX_DEPTH, dumps, json_kind, json_weight, loads

HEAVY = {
    "numbers": b"0.5,", "large numbers": b"1234567,", "texts": b'"ab",', "long texts": b'"' + b"x" * 90 + b'",',
    "wide texts": '"日本ab",'.encode(),
    "arrays": b"[],", "arrays of one": b"[1],", "objects": b"{},", "objects of one": b'{"a":1},', "deep": b"[" * 40 + b"]" * 40 + b",",
}  # fmt: skip

AWKWARD = st.text('[]{}":\\a\n')
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | AWKWARD,
    lambda inner: st.lists(inner) | st.dictionaries(AWKWARD, inner),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    inner = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[1,]",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'"\xff"',
        b'"\\ud800"',
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"9" * 5000,
        b"01",
        b"{'a': 1}",
        b"{} {}",
    ],
)
def test_what_is_not_json_is_refused_with_its_position(body: bytes) -> None:
    """Every text outside JSON is a MalformedBody that names line and column (reliability cases 11
    and 13).
    """
    with pytest.raises(MalformedBody, match=r"line \d+ column \d+"):
        loads(body)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1000, 250_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused(depth: int, opening: bytes, closing: bytes) -> None:
    """Nesting beyond the cap is refused whatever nests and however deep (reliability case 12)."""
    with pytest.raises(MalformedBody, match=r"deeper than 64|depth limit"):
        loads(opening * depth + b"1" + closing * depth)


def test_nesting_up_to_the_cap_is_read_and_brackets_in_strings_do_not_nest() -> None:
    """Only real nesting counts: not brackets side by side, not those in strings, escaped quotes or
    not.
    """
    assert depth_of(loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)) == MAX_DEPTH
    assert len(loads(b"[" + b"[],{}," * 500 + b"1]")) == 1001
    for text in ("[" * 1000, '\\"' + "[{" * 1000, '"][' * 5000, "\\" * 3 + "[" * 5000):
        assert loads(json.dumps([text]).encode()) == [text]


@given(JSON, st.integers(0, 70))
def test_depth_is_counted_as_a_recursive_walk_counts_it(value: Any, extra: int) -> None:
    """A text is refused exactly when a recursive walk of its value finds it deeper than the cap."""
    for _ in range(extra):
        value = [value, {"[": "]"}]
    body = json.dumps([value, [[]] * MAX_DEPTH]).encode()
    if depth_of(value) + 1 > MAX_DEPTH:
        with pytest.raises(MalformedBody):
            loads(body)
    else:
        assert loads(body) == json.loads(body)


@pytest.mark.parametrize(
    "text", [b"[" + b"[]," * 3 + b"{}]", b'[{"a":{}},[[', b'[{},"', b'[[[[\\"']
)
def test_more_arrays_and_objects_than_the_cap_are_not_even_parsed(
    text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well formed or not: what a parser would make before it meets the fault counts."""
    monkeypatch.setattr(json_text, "MAX_NODES", 1)
    with pytest.raises(TooLarge, match="1 are read"):
        loads(text)


def test_brackets_in_strings_are_no_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a parser makes counts."""
    monkeypatch.setattr(json_text, "MAX_NODES", 2)
    assert loads(json.dumps(["[{" * 100, ['\\"[']]).encode()) == ["[{" * 100, ['\\"[']]


def test_of_a_repeated_key_the_last_value_counts() -> None:
    """As in every JSON parser (reliability case 11)."""
    assert loads(b'{"a": 1, "b": [{"c": 2, "\\u0063": 3}], "a": 4}') == {"a": 4, "b": [{"c": 3}]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1.5, None, "é"]}, '{"a":[1.5,null,"é"]}'),
        (np.array([[1, 2], [3, 4]]).T, "[[1,3],[2,4]]"),
        (np.array(1.5), "1.5"),
        (np.float32(0.1), "0.1"),
        (np.array([True, False]), "[true,false]"),
        (np.array(["a", b"b"], object), '["a","Yg=="]'),
        ({"a": b"\xff", 1: {np.int64(2): 3}}, '{"a":"/w==","1":{"2":3}}'),
        (np.longlong(1), "1"),
        (np.zeros((2, 0)), "[[],[]]"),
        (float("nan"), "null"),
        (np.array([np.nan, np.inf, 1], np.float32), "[null,null,1.0]"),
    ],
)
def test_an_answer_is_written_whatever_its_layout(value: Any, text: str) -> None:
    """Arrays of any layout and kind become plain JSON, and NaN and infinities null (reliability
    case 22).
    """
    assert dumps(value).decode() == text


@pytest.mark.parametrize(
    "value", [object(), 1j, np.array([1j]), {(1,): 2}, 2**70, "\ud800", np.array(["NaT"], "M8[D]")]
)
def test_an_answer_that_json_cannot_carry_is_the_functions_fault(value: Any) -> None:
    """A value outside JSON is a FunctionError without the value in it."""
    with pytest.raises(FunctionError, match="cannot be written as JSON"):
        dumps([value])


def test_every_json_value_has_a_kind() -> None:
    """Messages name a value by its kind, never by itself."""
    kinds = [json_kind(value) for value in loads(b'[true, 1, 1.5, "a", [], {}, null]')]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("unit", HEAVY.values(), ids=HEAVY.keys())
def test_the_memory_that_a_text_becomes_is_known_before_it_is_read(unit: bytes) -> None:
    """At least nine tenths of it, and not ten times as much: two looks, the second at what is
    outside strings.
    """
    body = b"[" + (unit * (60_000 // len(unit)))[:-1] + b"]"
    tracemalloc.start()
    value = loads(body)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert value
    assert 0.9 * taken < json_weight(body, 0) <= json_weight(body, 1 << 60) + len(body) < 10 * taken


def test_what_is_in_a_text_is_no_value() -> None:
    """Brackets, commas and escaped quotes; one character beyond U+FFFF makes four bytes of each."""
    assert json_weight(b'["' + b'[{,\\"' * 10_000 + b'"]', 0) < 2 * 60_000
    assert json_weight(b'["' + b"x" * 50_000 + '😀"]'.encode(), 0) > 4 * 50_000
    assert json_weight(b'["' + b"x" * 50_000 + b'\\ud83d\\ude00"]', 0) > 4 * 50_000


@given(JSON, st.integers(1, 9), st.sampled_from([0, 4096]))
def test_a_text_is_separated_from_its_strings_a_piece_at_a_time(
    value: Any, piece: int, small: int
) -> None:
    """Wherever a piece ends, within a string or next to an escape: the depth is that of the value."""
    body, depth = json.dumps(value, ensure_ascii=False).encode(), depth_of(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_PIECE", piece)
        patch.setattr(json_text, "_SMALL", small)
        patch.setattr(json_text, "MAX_DEPTH", depth)
        assert loads(body) == value
        patch.setattr(json_text, "MAX_DEPTH", depth - 1)
        if depth:
            with pytest.raises(MalformedBody, match="deeper"):
                loads(body)
