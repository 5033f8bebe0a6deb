"""ONNX Runtime itself, imported by the first model: functions of plain Python do without it, and
so do the commands that run nothing.

Two packages bring it, ``onnxruntime`` and ``onnxruntime-gpu``, which write the same files: where
both were installed and one was removed, a folder without its contents is left.
"""

from __future__ import annotations

import functools
from typing import Any

from runtime.errors import LoadError
from runtime.system.extras import missing_message

_DAMAGED = (
    "the installed ONNX Runtime is not whole: onnxruntime and onnxruntime-gpu write the same files,"
    " so one of them must be installed alone. Run: pip uninstall onnxruntime onnxruntime-gpu, then"
    " pip install 'wakeful[cpu]' (or wakeful[gpu])"
)


@functools.cache
def onnx_runtime() -> Any:
    """The module ``onnxruntime``.

    Raises:
        LoadError: it is not installed, or not whole; with the line that installs it.
    """
    try:
        import onnxruntime  # 50 ms and 30 MB that functions without models do without
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise LoadError(missing_message("onnxruntime", "an ONNX model")) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise LoadError(_DAMAGED)
    return onnxruntime


def is_installed() -> bool:
    """Whether models can be run here."""
    try:
        onnx_runtime()
    except LoadError:
        return False
    return True
