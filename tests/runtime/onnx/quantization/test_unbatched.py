"""A model run once."""

from __future__ import annotations

import numpy as np
import onnx

from runtime.onnx.quantization.acceptance import run_unbatched
from tests import onnx_models


def test_outputs_have_their_names(tmp_path):
    """Of a model that was never written to a file that is kept."""
    onnx_models.double(tmp_path / "double.onnx")
    found = run_unbatched(
        onnx.load(str(tmp_path / "double.onnx")), {"x": np.array([[1, 2, 3]], np.float32)}
    )
    assert {name: value.tolist() for name, value in found.items()} == {"y": [[2, 4, 6]]}
