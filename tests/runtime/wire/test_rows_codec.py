"""Rows that go to another process arrive as they were."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytest

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
from runtime.wire.rows_codec import ALIGNED, START, encode
from runtime.wire.rows_reader import decode


def through(*rows: Any, writable: bool = False) -> list[Any]:
    body = b"".join(encode(rows))
    return decode(bytearray(body) if writable else body, 100)


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
    ],
    ids=repr,
)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    """Python's values come back equal, of the same types."""
    (row,) = through({"value": value, "beside": value})
    assert repr(row) == repr({"value": value, "beside": value})


@pytest.mark.parametrize("dtype", ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (5, 3, 2)])
def test_an_array_arrives_as_it_was(dtype: str, shape: tuple[int, ...]) -> None:
    """Dtype, shape and every bit are kept, and what arrives is aligned in memory, whatever stands before it."""
    array = np.arange(math.prod(shape)).astype(dtype).reshape(shape)
    one, other = through({"odd": b"x", "array": array}, {"array": array, "list": [array, None, array.copy(order="F")]})
    for found in (one["array"], other["array"], other["list"][0], other["list"][2]):
        assert (found.dtype, found.shape, found.flags.aligned) == (array.dtype, shape, True)
        assert found.tobytes() == array.tobytes()


def test_rows_of_unlike_shape_go_together() -> None:
    """Each row's array has its own shape: nothing is stacked or padded."""
    crops = [np.full((3, 48, width), width, np.float32) for width in (64, 7, 320)]
    found = through(*({"crop": crop} for crop in crops))
    assert [row["crop"].shape for row in found] == [crop.shape for crop in crops]
    assert all(np.array_equal(row["crop"], crop) for row, crop in zip(found, crops, strict=True))


@pytest.mark.parametrize("value", [np.float32(0.1), np.float64(math.nan), np.int64(-1), np.bool_(True), np.uint8(255), np.float16(1.5)])
def test_a_scalar_of_numpy_stays_one(value: np.generic) -> None:
    """A float32 is not widened: its shortest text is another one then."""
    (row,) = through({"score": value})
    assert type(row["score"]) is type(value)
    assert row["score"].tobytes() == value.tobytes()


@pytest.mark.parametrize("array", [objects("a", "ö", ""), objects(b"a", b"\xff"), np.array(["ab", "c"]), objects()], ids=repr)
def test_texts_of_a_model_stay_text_and_bytes_bytes(array: np.ndarray) -> None:
    """Object arrays keep what their elements are."""
    (row,) = through({"texts": array}, writable=True)
    assert row["texts"].dtype == object
    assert row["texts"].tolist() == array.tolist()


def test_numbers_are_sent_and_read_where_they_lie() -> None:
    """A large array is in the body without a copy, and what is read is a view: writable where the body is."""
    array = np.arange(100_000, dtype=np.float32)
    pieces = encode([{"array": array}])
    assert any(np.shares_memory(np.frombuffer(piece, np.uint8), array) for piece in pieces)
    body = b"".join(pieces)
    assert not decode(body, 1)[0]["array"].flags.writeable
    assert decode(bytearray(body), 1)[0]["array"].flags.writeable


def test_many_small_arrays_are_few_pieces() -> None:
    """A thousand small buffers do not become a thousand pieces to send."""
    assert len(encode([{"x": np.zeros(3)} for _ in range(1000)])) == 2


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
    """Class, text, place, status and the time to come again are kept, beside rows that did well."""
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


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Box(1), "boxes[1].b is a Box"),
        ({1: 2}, "a key that is no text"),
        (np.array([1j]), "complex128"),
        (objects("a", b"b"), "one kind"),
        (objects(3), "int"),
        ({1, 2}, "set"),
        (2**70, "64-bit"),
        ("\ud800", "surrogate"),
    ],
    ids=repr,
)
def test_what_would_arrive_as_something_else_is_refused(value: Any, said: str) -> None:
    """The author hears which value it is, by its place."""
    with pytest.raises(FunctionError, match=said.replace("[", r"\[")):
        encode([{"boxes": [0, {"b": value}]}])


def test_what_nests_too_deep_is_refused() -> None:
    """By the sender, who knows the value's name."""
    value: Any = 0
    for _ in range(100):
        value = [value, value is None, {}]
    with pytest.raises(FunctionError, match="deep"):
        encode([{"value": value}])


def body_of(head: Any, data: bytes = b"") -> bytes:
    text = orjson.dumps(head)
    text += b" " * (-(START.size + len(text)) % ALIGNED)
    return START.pack(b"WKR1", len(text)) + text + data


def headed(part: Any, row: Any = None) -> dict[str, Any]:
    return {"rows": [{"x": None} if row is None else row], "parts": [part], "errors": {}}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", MalformedBody),
        (b"{}", MalformedBody),
        (START.pack(b"WKR1", 1 << 31), MalformedBody),
        (START.pack(b"WKR1", 8) + b"        ", MalformedBody),
        (body_of([]), MalformedBody),
        (body_of({"rows": []}), MalformedBody),
        (body_of({"rows": {}, "parts": [], "errors": {}}), MalformedBody),
        (body_of({"rows": [3], "parts": [], "errors": {}}), MalformedBody),
        (body_of({"rows": [None], "parts": [], "errors": {}}), MalformedBody),
        (body_of({"rows": [None], "parts": [], "errors": {"0": {"error": "x"}}}), MalformedBody),
        (body_of({"rows": [None], "parts": [], "errors": {"0": {"error": "x", "code": "y", "status": 200}}}), MalformedBody),
        (body_of({"rows": [{}], "parts": [], "errors": {"0": {"error": "x", "code": "y"}}}), MalformedBody),
        (body_of({"rows": [{}] * 101, "parts": [], "errors": {}}), TooLarge),
        (body_of({"rows": [{}], "parts": [], "errors": {}}, b"x" * 16), MalformedBody),
        (body_of(headed(["x"]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "FP32", [4]])), MalformedBody),
        (body_of(headed([[0, "x"], "FP32", [5]]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "FP32", [-4]]), bytes(16)), WrongShape),
        (body_of(headed([[0, "x"], "FP32", [1 << 40]]), bytes(16)), WrongShape),
        (body_of(headed([[0, "x"], "FP32", [0, 1 << 62]])), WrongShape),
        (body_of(headed([[0, "x"], "FP32", [1] * 33]), bytes(16)), WrongShape),
        (body_of(headed([[0, "x"], "FP32", [True]]), bytes(16)), WrongShape),
        (body_of(headed([[0, "x"], "FP33", [4]]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "BYTES", [4]]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "BOOL", [1]]), b"\x02" + bytes(15)), WrongDatatype),
        (body_of(headed([[0, "y"], "FP32", [4]]), bytes(16)), MalformedBody),
        (body_of(headed([[1, "x"], "FP32", [4]]), bytes(16)), MalformedBody),
        (body_of(headed([[0], "FP32", [4]]), bytes(16)), MalformedBody),
        (body_of(headed([[], "FP32", [4]]), bytes(16)), MalformedBody),
        (body_of(headed([[-1, "x"], "FP32", [4]]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "FP32", [4]], {"x": 0}), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "bytes", None, 17]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "bytes", None, -1]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "str", None, 16]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "float", [1]]), bytes(16)), MalformedBody),
        (body_of(headed([[0, "x"], "str", [1], 6]), b"\x02\x00\x00\x00\xff\xff" + bytes(10)), MalformedBody),
        (body_of(headed([[0, "x"], "str", [1 << 30], 6]), bytes(16)), WrongShape),
        (body_of(headed([[0, "x"], "tuple"])), MalformedBody),
    ],
)
def test_what_nobody_of_ours_writes_is_refused(body: bytes, kind: type[WakefulError]) -> None:
    """Each fault of a body is the caller's, and found before anything is allocated for it."""
    with pytest.raises(kind):
        decode(body, 100)


def test_a_cut_body_is_refused_wherever_it_is_cut() -> None:
    """No prefix of a body reads as one."""
    body = b"".join(encode([{"x": np.arange(10, dtype=np.float32), "y": [b"abc", math.nan]}]))
    for size in range(len(body)):
        with pytest.raises(RequestError):
            decode(body[:size], 100)
