"""An ONNX model that runs: a session of one thread a run, safe to run from several worker threads
at once.

``open_shared`` opens a model once in a process, however many functions run it; the session lives as
long as one of them holds it. ``warm_up_runtime`` opens a process's first session, which pays for
ONNX Runtime's own start (4 ms and 1.4 MB) before any function loads.

ONNX Runtime raises the same classes for a bad row, for missing memory and for a lost device;
``is_out_of_memory`` and ``lost_device`` tell them apart by the texts. Sources of the texts:

- ``core/framework/bfc_arena.cc``: the arena's own. *Failed to allocate memory for requested buffer
  of size 268435456* was seen with 1.31 on a CPU under ``RLIMIT_AS``; *Available memory of X is
  smaller than requested bytes of Y* is an arena's with a limit.
- ``std::bad_alloc::what()``, of kernels that allocate past the arena; pybind11 makes a MemoryError
  of it where it gets through.
- ``core/providers/cuda/cuda_call.cc``: *CUDA failure 700: an illegal memory access was encountered
  ; GPU=0 ; hostname=...*, and the same with CUBLAS and CUDNN and the name of a status.
- NVIDIA's ``cudaError_t``: the codes below are those of which it says that the process must be
  terminated and relaunched.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DeviceLost, LoadError
from runtime.onnx.installed_build import is_installed, onnx_runtime
from runtime.onnx.model_file import MAX_AXES, find_weights
from runtime.onnx.model_info import Dims, build_info
from runtime.onnx.prepared_model import PreparedModel
from runtime.onnx.providers import (
    CPU,
    CPU_PLAN,
    SessionPlan,
    missing_requirement,
    plan_session,
    preload_libraries,
    session_options,
)
from runtime.system.files import file_state
from runtime.system.memory import free_bytes
from runtime.system.messages import quote
from runtime.types import tensors
from runtime.types.tensors import TensorSpec

Array = NDArray[Any]

logger = logging.getLogger("wakeful.model")


class Session:
    """One model, loaded.

    Args:
        path: the ``.onnx`` file.
        plan: providers and threads.
        prepared: the file's prepared form; if it cannot be opened, the log says so and the file
            itself is opened.

    Attributes:
        file_state: size and time of change of the file that was opened.
        is_prepared: the prepared form is what runs.
        is_unproven: the model does not run on made-up data, as its first run showed; only real data
            show whether it works.
        fallback: why the CPU runs it though the plan prefers a device, and does not insist; empty
            when the plan's first choice runs it.

    Mutable state: ``_next_run``, options of the run after one that had no memory. Workers share it
    without a lock: at worst one more run has them.

    Raises:
        LoadError: ONNX Runtime refuses the file, or the provider asked for is not the one that
            runs.
    """

    def __init__(
        self, path: Path, plan: SessionPlan, prepared: PreparedModel | None = None
    ) -> None:
        self.path = path
        self.file_state = file_state(path)  # before it is opened: a file that changes is another
        self._plan = plan
        session = _open_prepared(path, plan, prepared) if prepared is not None else None
        self.is_prepared = session is not None
        self._session, fallback = (session, "") if session else _open_or_fall_back(path, plan)
        self.fallback = (
            plan.fallback or fallback or _check_provider(plan, self._session.get_providers(), path)
        )
        self._has_assignment = plan.providers != (CPU,) and not fallback
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.info = build_info(map(_describe_tensor, inputs), map(_describe_tensor, outputs))
        self._names = [spec.name for spec in self.info.outputs]
        self._next_run: Any = None
        self.is_unproven = False

    def __repr__(self) -> str:
        return (
            f"<Session {self.path.name}{', prepared,' if self.is_prepared else ''} on"
            f" {self._session.get_providers()[0]}>"
        )

    @property
    def provider(self) -> str:
        """The execution provider that really runs, as ONNX Runtime reports it after creation."""
        name: str = self._session.get_providers()[0]
        return name

    def count_nodes(self) -> Mapping[str, int]:
        """Nodes of the graph by the execution provider that runs them; empty for a plan of the CPU
        alone, which runs them all.
        """
        if not self._has_assignment:
            return {}
        counts = Counter[str]()
        for part in self._session.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
        return counts

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """One run; outputs in the order of ``info.outputs``.

        Raises:
            MemoryError: memory, or the device's, had no room for the run; a smaller one may fit.
            DeviceLost: the device failed; nothing more in this process runs on it.
            Exception: whatever else ONNX Runtime raises for these inputs; the caller knows which
                calls the rows belong to.
        """
        options, self._next_run = self._next_run, None
        try:
            outputs: Sequence[Array] = self._session.run(self._names, feeds, options)
        except Exception as error:
            # ONNX Runtime raises a class of its own for each status, without a common base
            self._raise_machine_fault(error)
            raise
        return outputs

    def _raise_machine_fault(self, error: Exception) -> None:
        """Raise what a failed run says of the machine; returns where its rows may be at fault."""
        if is_out_of_memory(error):
            if (arena := self._plan.arena) is not None:
                self._next_run = _shrinking_options(arena)
            raise MemoryError(str(error)) from error
        if (lost := lost_device(error)) and self.provider != CPU:
            raise DeviceLost(
                f"{self.path.name} cannot run any more: {lost}. Call again, another replica"
                " answers."
            ) from error

    def can_run(self, feeds: Mapping[str, Array]) -> bool:
        """Whether a run on these inputs succeeds."""
        try:
            return self.try_run(feeds) is not None
        except MemoryError:
            return False

    def try_run(self, feeds: Mapping[str, Array]) -> Sequence[Array] | None:
        """As ``run``; None if it fails, which ONNX Runtime does not log.

        Raises:
            MemoryError: memory had no room for it, which says nothing of the inputs.
        """
        quiet = onnx_runtime().RunOptions()
        quiet.log_severity_level = 4
        try:
            outputs: Sequence[Array] = self._session.run(self._names, feeds, quiet)
        except Exception as error:  # as above
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            return None
        return outputs

    def warm_up(self, rows: int, *, free: int, has_rows: bool, is_first: bool = False) -> None:
        """Run ``rows`` rows of made-up data, free dimensions at ``free``: some faults appear at the
        first run only.

        Args:
            has_rows: its first axis is that of rows.
            is_first: the model is being loaded. A model without rows often takes values that steer
                it (an axis, a shape, a split), which cannot be made up: on the CPU, such a model is
                then served without a first run, the log says so, and later self-tests skip it.

        Raises:
            LoadError: the run fails.
        """
        if self.is_unproven:
            return
        feeds = dummy_inputs(self.info.inputs, rows, free)
        try:
            self.run(feeds)
        except Exception as error:  # as above
            if (
                is_first
                and self.provider == CPU
                and not has_rows
                and not isinstance(error, MemoryError)
            ):
                self.is_unproven = True
                message = str(error).splitlines()[0][:300]
                logger.warning(
                    "%s is served without a first run, which fails on made-up data (%s). Declare an"
                    " example.",
                    self.path,
                    message,
                )
                return
            shapes = {name: list(array.shape) for name, array in feeds.items()}
            raise LoadError(
                f"{self.path}: the warm-up run at {shapes} failed: {error}. If the model takes"
                " other sizes or values, declare an example."
            ) from error


_Key = tuple[str, int, int, str, str]

_open_sessions: weakref.WeakValueDictionary[_Key, Session] = weakref.WeakValueDictionary()
_open_lock = threading.Lock()


def open_shared(path: Path, plan: SessionPlan, prepared: PreparedModel | None) -> Session:
    """The session of a file with that plan and in that form: the one that is open, or a new one. A
    file that changed since, or whose weights did, is another.

    Two threads that ask at the same time may open it twice; one of the sessions is then not shared.

    Raises:
        LoadError: as ``Session``.
    """
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size, repr(plan), repr(prepared))
    with _open_lock:
        found = _open_sessions.get(key)
    if found is None:
        found = Session(path, plan, prepared)
        with _open_lock:
            _open_sessions[key] = found
    return found


_NEGATION: Final = (
    b'\x08\x08:4\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01gZ\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01n'
    b"b\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)
"""An ONNX model, y = -x, float32 [n]; opset 17."""


def warm_up_runtime() -> None:
    """Open a session, run it and discard it; what ONNX Runtime set up stays with the process. Where
    it is not installed, the load of a model says so.
    """
    if not is_installed():
        return
    session = onnx_runtime().InferenceSession(
        _NEGATION, session_options(plan_session(0, None)), providers=[CPU]
    )
    session.run(["y"], {"x": np.ones(1, np.float32)})


def dummy_inputs(inputs: Sequence[TensorSpec], rows: int, free: int) -> dict[str, Array]:
    """Made-up inputs of a model of which only the interface is known. All are 1: a valid token id,
    an attended position, a plain number.

    Args:
        rows: size of a free first dimension.
        free: size of the other free ones.

    Raises:
        LoadError: its fixed dimensions ask for more memory than is free, or for more axes than an
            array has.
    """
    dims = {spec.name: _dummy_dims(spec, rows, free) for spec in inputs}
    _refuse_too_large(inputs, dims)
    return {spec.name: _dummy_input(spec, dims[spec.name]) for spec in inputs}


def _refuse_too_large(inputs: Sequence[TensorSpec], dims: Mapping[str, Sequence[int]]) -> None:
    for spec in inputs:
        if len(spec.shape) > MAX_AXES:
            raise LoadError(
                f"{quote(spec.name)} has {len(spec.shape)} axes; an array has {MAX_AXES} at most."
            )
        # NumPy counts an axis of size 0 as one of 1 when it looks whether an array can be
        count = math.prod(max(1, size) for size in dims[spec.name])
        size_bytes = count * np.dtype(tensors.NUMPY.get(spec.datatype, object)).itemsize
        if size_bytes > _LARGE_BYTES and size_bytes > (free := free_bytes()):
            raise LoadError(
                f"{quote(spec.name)} has the shape {quote(list(dims[spec.name]))}, of which one run"
                f" takes {size_bytes // 10**9} GB, and {free // 10**9} GB of memory are free."
                " Export the model with smaller dimensions."
            )


_LARGE_BYTES: Final = 1 << 30
"""Of an input, below which nothing asks how much memory is free."""


def varied_inputs(inputs: Sequence[TensorSpec], rows: int, free: int) -> dict[str, Array]:
    """As ``dummy_inputs``, but every number differs: floats around 0, integers 0 or 1. The same
    each time.
    """
    random = np.random.default_rng(0)
    feeds = dummy_inputs(inputs, rows, free)
    for name, array in feeds.items():
        if array.dtype.kind == "f":
            feeds[name] = random.standard_normal(array.shape).astype(array.dtype)
        elif array.dtype.kind in "iub":
            feeds[name] = random.integers(0, 2, array.shape).astype(array.dtype)
    return feeds


def _dummy_dims(spec: TensorSpec, rows: int, free: int) -> list[int]:
    return [
        rows if axis == 0 and dim == -1 else free if dim == -1 else dim
        for axis, dim in enumerate(spec.shape)
    ]


def _dummy_input(spec: TensorSpec, dims: list[int]) -> Array:
    return (
        np.full(dims, "warm-up", object)
        if spec.datatype == "BYTES"
        else np.ones(dims, tensors.NUMPY[spec.datatype])
    )


_NO_MEMORY: Final = re.compile(
    r"Failed to allocate memory for requested buffer|is smaller than requested bytes of"
    r"|std::bad_alloc|bad allocation"
    r"|CUDA failure 2: |CUDA_ERROR_OUT_OF_MEMORY|_STATUS_ALLOC_FAILED|_DEVICE_ALLOCATION_FAILED"
)

_LOST: Final = re.compile(
    r"CUDA failure (214|220|226|700|702|709|710|714|715|716|717|718|719|721): ([^;]*)"
)
"""Uncorrectable ECC and NVLink errors, contained faults, illegal addresses and instructions,
timeouts, asserts, failed launches.
"""


def is_out_of_memory(error: Exception) -> bool:
    """Whether a run failed because memory had no room for it."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def lost_device(error: Exception) -> str:
    """What happened to a device that nothing more in this process will run on; empty when it still
    runs.
    """
    found = _LOST.search(str(error))
    return f"CUDA error {found[1]}, {found[2].strip()}" if found is not None else ""


def _shrinking_options(arena: str) -> Any:
    """Options of a run at whose end the arena returns the memory of earlier runs, which is in
    pieces too small for this one: only with it did 32 rows of 4 MB fit into 150 MB after runs of
    16.
    """
    options = onnx_runtime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
    return options


def _open(path: Path, plan: SessionPlan, options: Any) -> Any:
    if plan.providers[0] != CPU:
        preload_libraries()
    # a fallback to the CPU is logged here, not by ONNX Runtime
    return onnx_runtime().InferenceSession(
        str(path), options, providers=plan.for_ort(), enable_fallback=0
    )


def hold_weights(path: Path, options: Any) -> Sequence[bytes]:
    """Give a session that is about to be opened its weights from memory, where they lie outside the
    model's file. ONNX Runtime would map that file for as long as the session lives, and an export
    that writes it anew would end the process or change the answers.

    Returns:
        What has to stay until the session is open, which has a copy then.

    Raises:
        LoadError: a file of weights cannot be read, or is not in the model's folder.
    """
    files = find_weights(path)
    try:
        held = [file.read_bytes() for file in files.values()]
    except OSError as error:
        raise LoadError(
            f"{path} keeps weights in {error.filename}, which cannot be read: {error.strerror}."
        ) from error
    if held:
        sizes = list(map(len, held))
        options.add_external_initializers_from_files_in_memory(list(files), held, sizes)
    return held


def _open_or_fall_back(path: Path, plan: SessionPlan) -> tuple[Any, str]:
    """A session, and why it runs on the CPU where the plan does not insist on its device.

    Raises:
        LoadError: ONNX Runtime refuses the model, or the device that the plan insists on.
    """
    options = session_options(plan)
    held = hold_weights(path, options)
    try:
        return _open(path, plan, options), ""
    except Exception as error:
        # ONNX Runtime raises a class of its own for each status, without a common base
        if plan.required or plan.providers[0] == CPU:
            raise LoadError(f"{path}: ONNX Runtime refuses the model: {error}") from error
        reason = f"{plan.providers[0]} refuses it: {error}"
    finally:
        del held
    session, _ = _open_or_fall_back(path, CPU_PLAN)
    logger.warning("%s runs on the CPU: %s", path, reason)
    return session, reason


def _check_provider(plan: SessionPlan, running: Sequence[str], path: Path) -> str:
    """Why the first provider of a plan is not the one that runs; empty when it is. ONNX Runtime
    itself falls back to the CPU with a line in its log.

    Raises:
        LoadError: the plan insists on its first provider.
    """
    first = plan.providers[0]
    if running[0] == first:
        return ""
    reason = (
        missing_requirement(first)
        or "ONNX Runtime could not start it; its own line in the log says why."
    )
    if plan.required:
        raise LoadError(f"{path} was to run on {first} and runs on {running[0]}: {reason}")
    logger.warning("%s was to run on %s and runs on %s: %s", path, first, running[0], reason)
    return reason


def _open_prepared(path: Path, plan: SessionPlan, prepared: PreparedModel) -> Any:
    if prepared.model is None:
        return None
    try:
        return _open(prepared.model, plan, session_options(plan, optimised=True))
    except Exception as error:  # as above; a folder that is being removed, for instance
        logger.warning(
            "%s: its prepared form does not open, the file itself is used: %s", path, error
        )
        return None


def _describe_tensor(node: Any) -> tuple[str, str, Dims]:
    try:
        datatype = tensors.from_onnx(node.type)
    except KeyError:
        raise LoadError(
            f"{node.name!r} is {node.type}, which is no tensor of the Open Inference Protocol."
        ) from None
    return node.name, datatype, node.shape
