"""What ONNX Runtime says when there is no memory, and when a device is lost; it raises the same classes for these as for a bad row.

Sources of the texts:

- ``core/framework/bfc_arena.cc``: the arena's own. *Failed to allocate memory for requested buffer of size 268435456* was seen with 1.31
  on a CPU under ``RLIMIT_AS``; *Available memory of X is smaller than requested bytes of Y* is an arena's with a limit.
- ``std::bad_alloc::what()``, of kernels that allocate past the arena; pybind11 makes a MemoryError of it where it gets through.
- ``core/providers/cuda/cuda_call.cc``: *CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=...*, and the same
  with CUBLAS and CUDNN and the name of a status.
- NVIDIA's ``cudaError_t``: the codes below are those of which it says that the process must be terminated and relaunched.
"""

from __future__ import annotations

import re
from typing import Final

_NO_MEMORY: Final = re.compile(
    r"Failed to allocate memory for requested buffer|is smaller than requested bytes of|std::bad_alloc|bad allocation"
    r"|CUDA failure 2: |CUDA_ERROR_OUT_OF_MEMORY|_STATUS_ALLOC_FAILED|_DEVICE_ALLOCATION_FAILED"
)

_LOST: Final = re.compile(r"CUDA failure (214|220|226|700|702|709|710|714|715|716|717|718|719|721): ([^;]*)")
"""Uncorrectable ECC and NVLink errors, contained faults, illegal addresses and instructions, timeouts, asserts, failed launches."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether a run failed because memory had no room for it."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def lost_device(error: Exception) -> str:
    """What happened to a device that nothing more in this process will run on; empty when it still runs."""
    found = _LOST.search(str(error))
    return f"CUDA error {found[1]}, {found[2].strip()}" if found is not None else ""
