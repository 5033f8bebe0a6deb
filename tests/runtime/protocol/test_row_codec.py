"""Rows that go to another process arrive as they were."""

from __future__ import annotations

import datetime
import decimal
import math
import tracemalloc
import uuid
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import (
    DeadlineExceeded,
    FunctionError,
    MalformedBody,
    Overloaded,
    RequestError,
    TooLarge,
    WakefulError,
    WrongDatatype,
    WrongShape,
)
from runtime.protocol import json_text
from runtime.protocol.row_codec import (
    ALIGNED,
    ARRAY,
    MAGIC,
    NAMED,
    SCALAR,
    START,
    TUPLE,
    decode_rows,
    encode_rows,
)
from tests.problems import expect_values


def through(*rows: Any, writable: bool = False) -> list[Any]:
    body = b"".join(encode_rows(rows))
    return decode_rows(bytearray(body) if writable else body, 100)


def objects(*elements: Any) -> np.ndarray:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


@pytest.mark.parametrize(
    "value",
    [
        "text, ä and \u0000",
        "",
        7,
        -(2**63),
        2**64 - 1,
        True,
        None,
        0.1,
        -0.0,
        1e308,
        math.inf,
        b"",
        b"\x00\xff" * 9000,
        [1, 2.5, "three", None, b"four"],
        [0.5, math.nan, -math.inf],
        (1, (2, b"3"), []),
        {"": {"a b": [{"x": (1,)}]}, "parts": None},
        [],
        {},
        [(datetime.date(2024, 5, 6), b"x")],
        datetime.datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=datetime.UTC),
        datetime.time(7, 8, 9),
        datetime.timedelta(days=-1, microseconds=7),
        datetime.timedelta.min,
        datetime.timedelta.max,
        uuid.UUID(int=7),
        decimal.Decimal("1.10"),
        decimal.Decimal("1" * 1000),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    """Python's values come back equal, of the same types."""
    (row,) = through({"value": value, "other": value})
    assert repr(row) == repr({"value": value, "other": value})


@pytest.mark.parametrize(
    "dtype", ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (5, 3, 2)])
def test_an_array_arrives_as_it_was(dtype: str, shape: tuple[int, ...]) -> None:
    """Dtype, shape and every bit are kept, and what arrives is aligned in memory, whatever is
    before it.
    """
    array = np.arange(math.prod(shape)).astype(dtype).reshape(shape)
    one, other = through(
        {"odd": b"x", "array": array},
        {"array": array, "list": [array, None, array.copy(order="F")]},
    )
    for found in (one["array"], other["array"], other["list"][0], other["list"][2]):
        assert (found.dtype, found.shape, found.flags.aligned) == (array.dtype, shape, True)
        assert found.tobytes() == array.tobytes()


def test_rows_of_unlike_shape_go_together() -> None:
    """Each row's array has its own shape: nothing is stacked or padded."""
    crops = [np.full((3, 48, width), width, np.float32) for width in (64, 7, 320)]
    found = through(*({"crop": crop} for crop in crops))
    assert [row["crop"].shape for row in found] == [crop.shape for crop in crops]
    assert all(np.array_equal(row["crop"], crop) for row, crop in zip(found, crops, strict=True))


@pytest.mark.parametrize(
    "value",
    [
        np.float32(0.1),
        np.float64(math.nan),
        np.int64(-1),
        np.bool_(True),
        np.uint8(255),
        np.float16(1.5),
    ],
)
def test_a_scalar_of_numpy_stays_one(value: np.generic) -> None:
    """A float32 is not widened: its shortest text is another one then."""
    (row,) = through({"score": value})
    assert type(row["score"]) is type(value)
    assert row["score"].tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "array",
    [objects("a", "ö", ""), objects(b"a", b"\xff"), np.array(["ab", "c"]), objects()],
    ids=repr,
)
def test_texts_of_a_model_stay_text_and_bytes_bytes(array: np.ndarray) -> None:
    """Object arrays keep what their elements are."""
    (row,) = through({"texts": array}, writable=True)
    assert row["texts"].dtype == object
    assert row["texts"].tolist() == array.tolist()


def test_a_large_array_is_sent_and_read_where_it_lies() -> None:
    """It is a piece of the body without a copy, and what is read is a view of the body: writable
    where that is.
    """
    array = np.arange(100_000, dtype=np.float32)
    pieces = encode_rows([{"array": array}])
    assert any(np.shares_memory(np.frombuffer(piece, np.uint8), array) for piece in pieces)
    body = b"".join(pieces)
    found = decode_rows(body, 1)[0]["array"]
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))
    assert not found.flags.writeable
    assert decode_rows(bytearray(body), 1)[0]["array"].flags.writeable


def test_many_small_arrays_are_one_piece() -> None:
    """A thousand small buffers do not become a thousand pieces to send."""
    assert len(encode_rows([{"x": np.zeros(3)} for _ in range(1000)])) == 1


@pytest.mark.parametrize("offset", [1, 4, 8])
def test_an_array_of_a_body_that_lies_odd_in_memory_is_aligned(offset: int) -> None:
    """By a copy: int64 over an odd address is slow in numpy, and not everywhere possible in native
    kernels.
    """
    (body,) = encode_rows([{"array": np.arange(9, dtype=np.int64)}])
    memory = np.zeros(len(body) + 64, np.uint8)
    start = -memory.ctypes.data % 16 + offset
    memory[start : start + len(body)] = np.frombuffer(body, np.uint8)
    found = decode_rows(memoryview(memory)[start : start + len(body)], 1)[0]["array"]  # type: ignore[arg-type]
    assert found.flags.aligned
    assert found.tolist() == list(range(9))


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("full.", retry_after_s=2.5),
        DeadlineExceeded("late."),
        RequestError("not so.", where="image"),
        FunctionError("stage failed."),
    ],
)
def test_an_error_is_the_same_error_again(error: WakefulError) -> None:
    """Class, text, place, status and the time to come again are kept, next to rows that did well."""
    good, bad = through({"x": 1}, error)
    assert good == {"x": 1}
    assert type(bad) is type(error)
    assert (bad.message, bad.where, bad.retry_after_s, bad.status, bad.code) == (
        error.message,
        error.where,
        error.retry_after_s,
        error.status,
        error.code,
    )


def test_an_error_that_is_not_known_here_keeps_its_code_and_status() -> None:
    """A function's own kind of error is answered as it would have been where it was raised."""

    class TooBlurred(RequestError):
        status = 422
        code = "too_blurred"

    (bad,) = through(TooBlurred("cannot be read."))
    assert isinstance(bad, RequestError)
    assert (bad.status, bad.code, str(bad)) == (422, "too_blurred", "cannot be read.")


@dataclass
class Box:
    x: int


class Opaque:
    def __repr__(self) -> str:
        return "Opaque()"


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (Opaque(), ["boxes[1].b", "Opaque"]),
        ({(1, 2): 2}, ["boxes[1].b", "keys"]),
        (np.array([1j]), ["boxes[1].b", "complex128"]),
        (objects("a", b"b"), ["boxes[1].b", "str", "one kind"]),
        (objects(3), ["'boxes[1].b'", "BYTES", "int"]),
        (1j, ["boxes[1].b", "complex"]),
        (2**70, ["64-bit", "Integer"]),
        ("\ud800", ["surrogates"]),
    ],
    ids=repr,
)
def test_what_would_arrive_as_something_else_is_refused(value: Any, values: list[str]) -> None:
    """The message says which value it is."""
    expect_values(refused(value), *values)


def refused(value: Any) -> FunctionError:
    """The error of a value that does not go to another process."""
    with pytest.raises(FunctionError) as caught:
        encode_rows([{"boxes": [0, {"b": value}]}])
    return caught.value


@pytest.mark.parametrize(
    ("value", "there"),
    [
        (Box(1), {"x": 1}),
        ([Box(2), b"x"], [{"x": 2}, b"x"]),
        ({1: b"x"}, {"1": "eA=="}),
        ({2, 1}, [1, 2]),
    ],
    ids=repr,
)
def test_a_class_is_sent_as_its_json(value: Any, there: Any) -> None:
    """What is next to it goes as it is."""
    assert through({"value": value}) == [{"value": there}]


def test_what_nests_too_deep_is_refused() -> None:
    """By the sender, which knows the value's name."""
    value: Any = 0
    for _ in range(100):
        value = [value, value is None, {}]
    with pytest.raises(FunctionError, match="deep"):
        encode_rows([{"value": value}])


def body_of(head: Any, data: bytes = b"") -> bytes:
    packed = head if isinstance(head, bytes) else msgpack.packb(head)
    start = START.pack(MAGIC, len(packed)) + packed
    return start + bytes(-len(start) % ALIGNED) + data


def array_of(text: str, code: int = ARRAY, data: bytes = bytes(16)) -> bytes:
    return body_of([{"x": msgpack.ExtType(code, text.encode())}], data)


def nested(levels: int) -> bytes:
    return body_of([b"\x91" * levels][0] + b"\xc0")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", MalformedBody),
        (b"{}", MalformedBody),
        (START.pack(b"WKR1", 1) + b"\x90", MalformedBody),
        (START.pack(MAGIC, 1 << 31), MalformedBody),
        (START.pack(MAGIC, 0) + bytes(8), MalformedBody),
        (body_of(b"\xc1"), MalformedBody),
        (body_of(b"\x90\x90"), MalformedBody),
        (body_of({}), MalformedBody),
        (body_of(None), MalformedBody),
        (body_of([3]), MalformedBody),
        (body_of([None]), MalformedBody),
        (body_of([[]]), MalformedBody),
        (body_of([[{"error": "x"}]]), MalformedBody),
        (body_of([[{"error": "x", "code": "y", "status": 200}]]), MalformedBody),
        (body_of([[{"error": "x", "code": "y"}, 1]]), MalformedBody),
        (body_of([{}] * 101), TooLarge),
        (body_of([{1: 2}]), MalformedBody),
        (body_of([{b"x": 2}]), MalformedBody),
        (body_of(b"\x91\x81\xa1\xff\xc0"), MalformedBody),
        (body_of([{"x": "y"}], bytes(16)), MalformedBody),
        (body_of(b"\xdd\xff\xff\xff\xff"), MalformedBody),
        (body_of(b"\xdd\x7f\xff\xff\xff" * 1000), MalformedBody),
        (body_of(b"\xdf\xff\xff\xff\xff"), MalformedBody),
        (body_of(b"\xc6\xff\xff\xff\xff"), MalformedBody),
        (body_of(b"\xc9\xff\xff\xff\xff\x01"), MalformedBody),
        (nested(65), MalformedBody),
        (nested(1000), MalformedBody),
        (nested(100_000), MalformedBody),
        (body_of([{"x": msgpack.ExtType(TUPLE, b"")}]), MalformedBody),
        (body_of([{"x": [1, msgpack.ExtType(TUPLE, b"")]}]), MalformedBody),
        (body_of([{"x": [msgpack.ExtType(TUPLE, b"x")]}]), MalformedBody),
        (array_of("FP32 16 4", code=9), MalformedBody),
        (array_of("FP32 16 4", data=b""), MalformedBody),
        (array_of("FP32 20 5"), MalformedBody),
        (array_of("FP32 16 5"), WrongShape),
        (array_of("FP32 16 -4"), MalformedBody),
        (array_of("FP32 -16 4"), MalformedBody),
        (array_of(f"FP32 16 {1 << 40}"), WrongShape),
        (array_of(f"FP32 0 0 {1 << 62}", data=b""), WrongShape),
        (array_of("FP32 16 4" + " 1" * 32), WrongShape),
        (array_of("FP32 16 4" + " 1" * 300), MalformedBody),
        (array_of("FP32 16 True"), MalformedBody),
        (array_of("FP32 16 4.0"), MalformedBody),
        (array_of("FP32"), MalformedBody),
        (array_of(""), MalformedBody),
        (array_of("FP33 16 4"), MalformedBody),
        (array_of("BYTES 16 4"), MalformedBody),
        (array_of("\u0663 16 4"), MalformedBody),
        (array_of("FP32 4 1", code=SCALAR), WrongShape),
        (array_of("str 4", code=SCALAR), MalformedBody),
        (array_of("BOOL 1 1", data=b"\x02" + bytes(15)), WrongDatatype),
        (array_of("str 6 1", data=b"\x02\x00\x00\x00\xff\xff" + bytes(10)), MalformedBody),
        (array_of("str 6 1", data=b"\x05\x00\x00\x00\xff\xff" + bytes(10)), MalformedBody),
        (array_of(f"str 6 {1 << 30}"), WrongShape),
        (array_of("date today", code=NAMED), MalformedBody),
        (array_of("date", code=NAMED), MalformedBody),
        (array_of("dates 2024-05-06", code=NAMED), MalformedBody),
        (array_of(f"timedelta {1 << 62}.0", code=NAMED), MalformedBody),
        (array_of("timedelta 1", code=NAMED), MalformedBody),
        (array_of("decimal x", code=NAMED), MalformedBody),
    ],
)
def test_what_no_function_of_the_cluster_writes_is_refused(
    body: bytes, kind: type[WakefulError]
) -> None:
    """Each fault of a body is the caller's."""
    with pytest.raises(kind):
        decode_rows(body, 100)


def test_more_lists_than_are_read_are_refused(monkeypatch) -> None:
    """An empty list is one byte of the head, and 56 of memory."""
    monkeypatch.setattr(json_text, "MAX_NODES", 100)
    assert len(decode_rows(body_of([{"x": [[]] * 97}]), 1)) == 1
    with pytest.raises(TooLarge, match="100 lists"):
        decode_rows(body_of([{"x": [[]] * 98}]), 1)


def test_a_length_that_is_not_there_costs_no_memory() -> None:
    """A thousand lists within each other, each of as many elements as msgpack's own limit allows by
    the body's size.
    """
    size = 1 << 20
    body = body_of((b"\xdd" + size.to_bytes(4, "big")) * 1000 + bytes(size))
    tracemalloc.start()
    try:
        with pytest.raises(MalformedBody):
            decode_rows(body, 1)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()


def test_a_cut_body_is_refused_wherever_it_is_cut() -> None:
    """No prefix of a body reads as one."""
    (body,) = encode_rows([{"x": np.arange(10, dtype=np.float32), "y": [b"abc", math.nan, (1,)]}])
    for size in range(len(body)):
        with pytest.raises(RequestError):
            decode_rows(body[:size], 100)


(VALID,) = encode_rows(
    [
        {
            "a": np.arange(6, dtype=np.int64).reshape(2, 3),
            "b": [(1, b"x"), {"c": np.float32(2)}],
            "d": objects("a", ""),
            "e": uuid.UUID(int=7),
        },
        FunctionError("no."),
    ]
)


@given(
    st.lists(
        st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
    st.binary(max_size=8),
)
def test_a_body_with_wrong_bytes_is_read_or_refused(
    changes: list[tuple[int, int]], tail: bytes
) -> None:
    """Never another exception; as many rows as the head says, each a map or an error."""
    body = bytearray(VALID)
    for at, byte in changes:
        body[at] = byte
    _read_or_refused(bytes(body) + tail)


@given(st.binary(max_size=200), st.binary(max_size=64))
def test_a_head_of_any_bytes_is_read_or_refused(head: bytes, data: bytes) -> None:
    """Likewise."""
    _read_or_refused(body_of(head, data))


def _read_or_refused(body: bytes) -> None:
    try:
        rows = decode_rows(body, 100)
    except RequestError:
        return
    assert all(isinstance(row, (dict, WakefulError)) for row in rows)
