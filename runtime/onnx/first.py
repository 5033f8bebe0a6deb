"""A process's first session, which pays for ONNX Runtime's own start: 4 ms and 1.4 MB that no function's load should bear."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnxruntime as ort

from runtime.onnx.options import CPU, plan, session_options

_NEGATION: Final = (
    b'\x08\x08:4\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01gZ\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01n'
    b"b\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)
"""An ONNX model, y = -x, float32 [n]; opset 17."""


def first_session() -> None:
    """Opens a session, runs it and throws it away; what it made stays with the process."""
    session = ort.InferenceSession(_NEGATION, session_options(plan(0, None)), providers=[CPU])
    session.run(["y"], {"x": np.ones(1, np.float32)})
