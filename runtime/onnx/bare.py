"""A model run once as it is, by whoever builds one and compares its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]


def answers(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name, of one thread of the CPU. Raises what ONNX Runtime raises, a class of its own for each status."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, dict(feeds)), strict=True))
