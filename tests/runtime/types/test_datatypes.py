"""The protocol's datatypes."""

from __future__ import annotations

import math

import pytest

from runtime.types.tensors import holds


@pytest.mark.parametrize(
    ("datatype", "yes", "no"),
    [
        ("UINT8", (0, 255, 1e2), (-1, 256, 0.5)),
        ("INT8", (-128, 127), (-129, 128)),
        ("INT64", (0, -1, 2**63 - 1), (0.5, 2**63, 1e30, math.inf, math.nan)),
        ("BOOL", (0, 1), (2, 0.5)),
        ("FP32", (0, 0.1, -1e30), (1e39,)),
        ("FP16", (0.1, 65504), (70000,)),
        ("FP64", (1e300,), ()),
        ("BYTES", (), (0,)),
    ],
)
def test_a_number_fits_a_datatype_if_it_is_there_what_it_was(datatype, yes, no):
    """The digits that a float loses apart."""
    assert [holds(datatype, number) for number in yes] == [True] * len(yes)
    assert [holds(datatype, number) for number in no] == [False] * len(no)
