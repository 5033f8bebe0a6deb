"""Texts of ONNX Runtime when there is no memory, and when a device is lost."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from runtime.onnx import session
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import is_out_of_memory, lost_device
from tests import onnx_models

EXPAND = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Expand node."
    " Name:'' Status Message: "
)
WHERE = (
    " ; GPU=0 ; hostname=h ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/x.cc ; line=63 ;"
    " expr=cudaMemcpyAsync(x); "
)


@pytest.mark.parametrize(
    ("text", "memory", "lost"),
    [
        (
            EXPAND
            + "bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory for requested buffer"
            " of size 268435456",
            True,
            "",
        ),
        (EXPAND + "Available memory of 19968 is smaller than requested bytes of 1572864", True, ""),
        (EXPAND + "std::bad_alloc", True, ""),
        ("CUDA failure 2: out of memory" + WHERE, True, ""),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED" + WHERE, True, ""),
        (
            "CUDA failure 700: an illegal memory access was encountered" + WHERE,
            False,
            "CUDA error 700, an illegal memory access was encountered",
        ),
        (
            "CUDA failure 719: unspecified launch failure" + WHERE,
            False,
            "CUDA error 719, unspecified launch failure",
        ),
        ("CUDA failure 98: invalid device function" + WHERE, False, ""),
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED" + WHERE, False, ""),
        (EXPAND + "invalid expand shape", False, ""),
        (
            "indices element out of data bounds, idx=99 must be within the inclusive range [-4,3]",
            False,
            "",
        ),
    ],
)
def test_a_failure_is_recognised_by_its_text(text, memory, lost):
    """A row's fault is neither; memory's may fit in a smaller batch; a lost device runs nothing
    more.
    """
    error = RuntimeError(text)
    assert (is_out_of_memory(error), lost_device(error)) == (memory, lost)


def test_a_memory_error_is_recognised_by_its_class():
    """A MemoryError without a text."""
    assert is_out_of_memory(MemoryError())


def test_options_after_a_lack_of_memory_are_of_one_run(tmp_path, monkeypatch):
    """Were they refused themselves, as a device's that has no such arena are, no run would succeed
    any more.
    """
    path = onnx_models.save(
        tmp_path / "m.onnx",
        [helper.make_node("ConstantOfShape", ["x"], ["y"])],
        {"x": (TensorProto.INT64, [1])},
        {"y": (onnx_models.FLOAT, ["n"])},
    )
    make = session._shrinking_options
    monkeypatch.setattr(session, "_shrinking_options", lambda arena: make("gpu:7"))
    model = session.Session(path, CPU_PLAN)
    with pytest.raises(MemoryError):
        model.run({"x": np.array([1 << 45])})
    with pytest.raises(Exception, match="arena"):
        model.run({"x": np.array([2])})
    assert model.run({"x": np.array([2])})[0].tolist() == [0, 0]
