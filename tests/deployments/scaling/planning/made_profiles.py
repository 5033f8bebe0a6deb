"""Profiles for tests: of functions that cost a fixed part a batch and a part a row."""

from __future__ import annotations

from deployments.scaling.planning.profiles import (
    FunctionProfile,
    Profile,
    make_profile,
    this_machine,
)
from runtime.declaration.function_spec import FunctionSpec, version_hash

BATCH = {"length": 0, "body_bytes": 20, "spread": [1.0], "runs": 30}
"""What a batch has besides its rows and seconds."""


def declare(name: str = "f", **args) -> FunctionSpec:
    """A function of one bare model."""
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"onnx": "m.onnx", **args})


def profiled(spec: FunctionSpec | None = None, **changes) -> FunctionProfile:
    """10 ms a batch and 1 ms a row, 2 ms beside, 100 ms to wake, 60 MB."""
    batches = [{**BATCH, "rows": rows, "seconds": 0.01 + 0.001 * rows} for rows in (1, 8, 32)]
    data = {
        "version": version_hash(spec or declare()),
        "device": "cpu",
        "batches": batches,
        "drift": 0.0,
        "shares_runs": True,
        "crowded": 1.0,
        "http": "in process",
        "call_s": 0.013,
        "served": 1.0,
        "idle_extra_s": [[0.0, 0.0]],
        "beside_s": [0.002],
        "beside_cpu_s": 0.0,
        "wake_s": {"read": 0.02, "session": 0.05, "first": 0.03, "total": 0.1},
        "memory_bytes": 60_000_000,
        "mapped_bytes": 0,
        "gpu_memory_mb": 0,
        **changes,
    }
    return FunctionProfile.model_validate(data)


def profile_of(*specs: FunctionSpec, **changes) -> Profile:
    """A profile of this machine."""
    functions = {spec.name: profiled(spec, **changes) for spec in specs}
    return make_profile(functions, this_machine(), 100_000_000)
