"""Numbers become a datatype whole, or not at all."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from runtime.types.tensors import NUMPY, UncastError, cast
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("values", "datatype", "becomes"),
    [
        (1, "INT8", 1),
        ([True, 2], "INT64", [1, 2]),
        ([2**63, 5], "UINT64", [2**63, 5]),  # of which numpy makes floats
        ([np.uint8(100)], "INT8", [100]),
        (2**53 + 1, "FP64", 2.0**53),
        ([1, 0.5], "FP32", [1, 0.5]),
        (10**30, "FP64", 1e30),
        ([math.inf, -math.inf], "FP16", [math.inf, -math.inf]),
        ([], "INT64", []),
        ([[]], "FP32", [[]]),
        (True, "BOOL", True),
        ("a", "BYTES", "a"),
        ([["a", "b"]], "BYTES", [["a", "b"]]),
    ],
)
def test_numbers_of_a_kind_become_a_datatype(values, datatype, becomes):
    """Of any width that has them."""
    made = cast(values, datatype)
    assert made.dtype == NUMPY[datatype]
    assert made.tolist() == becomes


@pytest.mark.parametrize(
    ("values", "datatype", "named"),
    [
        (2**63, "INT64", ("9223372036854775808", "INT64")),
        ([-1, 2**63], "INT64", ("9223372036854775808",)),
        (2**64, "UINT64", ("18446744073709551616",)),
        (-1, "UINT8", ("-1",)),
        (np.int64(300), "INT8", ("300",)),  # of which numpy makes 44
        ([np.uint8(200)], "INT8", ("200",)),
        (1e39, "FP32", ("1e+39",)),
        ([1, 70000], "FP16", ("70000",)),
        (10**400, "FP64", ("int", "range")),
        (1.7, "INT64", ("1.7",)),
        ([1, 2.0], "INT64", ("2.0",)),
        (1, "BOOL", ("1", "BOOL")),
        ("3", "FP32", ("'3'",)),
        ([1, "3"], "FP32", ("'3'",)),
        (None, "FP32", ("None",)),
        ([1, None], "FP64", ("None",)),
        (1j, "FP64", ("complex",)),
        (b"a", "BYTES", ("b'a'",)),
        (["a", 1], "BYTES", ("1",)),
        (["a", None], "BYTES", ("None",)),
    ],
)
def test_what_would_lose_something_is_refused(values, datatype, named):
    """With the element that would."""
    with pytest.raises(UncastError) as caught:
        cast(values, datatype)
    expect_values(caught.value, *named)


def test_random_numbers_are_themselves_or_refused():
    """Of 5,000 lists into every datatype of numbers: an integer comes out equal, a float finite
    where it was.
    """
    rng = random.Random(1)
    datatypes = [name for name in NUMPY if name != "BYTES"]
    refused = 0
    for _ in range(5000):
        values = [_number(rng) for _ in range(rng.randrange(1, 4))]
        datatype = rng.choice(datatypes)
        try:
            made = cast(values, datatype)
        except UncastError:
            refused += 1
            continue
        for before, after in zip(values, made.tolist(), strict=True):
            if NUMPY[datatype].kind == "f":
                assert math.isfinite(before) == math.isfinite(after)
                assert math.isclose(before, after, rel_tol=1e-2, abs_tol=1e-6)
            else:
                assert before == after
    assert 1000 < refused < 4000


def _number(rng: random.Random) -> Any:
    whole = rng.choice((0, 1, -1, 127, 128, 255, 256, 2**15, 2**31, 2**63, 2**64 - 1, 2**64))
    return rng.choice(
        [
            lambda: whole,
            lambda: -whole,
            lambda: rng.choice([np.int8(-5), np.uint8(200), np.int64(300), np.uint64(2**63)]),
            lambda: rng.choice([1.5, 65504.0, 70000.0, 1e39, np.float32(2.5), np.float16(1)]),
            lambda: True,
        ]
    )()
