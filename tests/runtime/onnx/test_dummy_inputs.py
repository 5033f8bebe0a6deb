"""Made-up inputs."""

from __future__ import annotations

import numpy as np

from runtime.onnx.session import dummy_inputs, varied_inputs, warm_up_runtime
from runtime.types.tensors import TensorSpec

INPUTS = (
    TensorSpec("ids", "INT64", (-1, -1)),
    TensorSpec("pixels", "FP32", (-1, 3, -1)),
    TensorSpec("flag", "BOOL", (2,)),
    TensorSpec("text", "BYTES", (-1, 1)),
)


def test_free_dimensions_take_the_sizes_asked_for() -> None:
    """The first is the rows."""
    for make in (dummy_inputs, varied_inputs):
        feeds = make(INPUTS, 4, 7)
        assert {name: array.shape for name, array in feeds.items()} == {
            "ids": (4, 7),
            "pixels": (4, 3, 7),
            "flag": (2,),
            "text": (4, 1),
        }
        assert {name: array.dtype.kind for name, array in feeds.items()} == {
            "ids": "i",
            "pixels": "f",
            "flag": "b",
            "text": "O",
        }


def test_varied_numbers_vary_and_are_the_same_each_time() -> None:
    """Integers stay indices of anything that has two of it."""
    one, two = (varied_inputs(INPUTS, 4, 7) for _ in range(2))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert len(np.unique(one["pixels"])) == one["pixels"].size
    assert set(np.unique(one["ids"])) == {0, 1}


def test_a_first_session_runs() -> None:
    """Its model is written out in the code."""
    warm_up_runtime()
