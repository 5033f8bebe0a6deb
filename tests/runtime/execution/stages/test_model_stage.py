"""A model's inputs: what a value becomes, and which values are refused."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import FunctionError
from tests import onnx_models
from tests.problems import expect_values
from tests.runtime.execution.stages.test_batch_mates import in_one_batch


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([1.0, None, 2.0], ("None",)),
        (None, ("None",)),
        ("3", ("'3'",)),
        ([1.0, "3", 2.0], ("'3'",)),
        (1e39, ("1e+39",)),
        (b"a", ("b'a'",)),
        (np.zeros(3), ("float64", ".astype(np.float32)")),
    ],
)
def test_what_a_model_would_take_for_another_number_is_refused(tmp_path, value, named):
    """With the stage, the value and the fix; its batch-mates are answered."""
    onnx_models.double(tmp_path / "m.onnx")
    fields = [{"x": [1.0, 2.0, 3.0]}, {"x": value}, {"x": [4, True, 6.5]}]
    rows = in_one_batch(tmp_path, fields, [{"stage": "m", "onnx": "m.onnx"}])
    assert [row.values["y"].tolist() for row in (rows[0], rows[2])] == [[2, 4, 6], [8, 2, 13]]
    assert isinstance(rows[1].error, FunctionError)
    expect_values(rows[1].error.message, "'m'", "'x'", "FP32", *named)
