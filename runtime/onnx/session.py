"""An ONNX model that runs: a session of one thread a run, safe to run from several worker threads at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from runtime import datatypes
from runtime.errors import DeviceLost, LoadError
from runtime.onnx import madeup
from runtime.onnx.faults import is_out_of_memory, lost_device
from runtime.onnx.info import ModelInfo, shares_first_axis
from runtime.onnx.options import CPU, SessionPlan, refuse_missing, session_options
from runtime.onnx.prepared import Prepared
from runtime.tensors import TensorSpec

Array = NDArray[Any]

logger = logging.getLogger("wakeful.model")


class Session:
    """One model, loaded.

    Args:
        path: the ``.onnx`` file.
        plan: providers and threads.
        prepared: what ``prepared.find`` knows of the file; if it cannot be opened, the log says so and the file itself is.

    Attributes:
        prepared: whether the prepared form is what runs.

    Mutable state: ``_next_run``, options that the run after one without memory has. Workers share it without a lock: at worst one more
    run has them.

    Raises:
        LoadError: ONNX Runtime refuses the file, or the provider asked for is not the one that runs.
    """

    def __init__(self, path: Path, plan: SessionPlan, prepared: Prepared | None = None) -> None:
        self.path = path
        session = _open_prepared(path, plan, prepared) if prepared is not None else None
        self.prepared = session is not None
        try:
            self._session = session or _open(path, plan, session_options(plan))
        except Exception as error:  # ONNX Runtime raises a class of its own for each status, without a common base
            raise LoadError(f"{path}: ONNX Runtime refuses the model: {error}") from error
        refuse_missing(plan, self._session.get_providers(), str(path))
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        batchable = bool(inputs) and shares_first_axis([node.shape for node in [*inputs, *outputs]])
        self.info = ModelInfo(tuple(map(_spec, inputs)), tuple(map(_spec, outputs)), batchable)
        self._names = [spec.name for spec in self.info.outputs]
        self._next_run: ort.RunOptions | None = None

    def __repr__(self) -> str:
        return f"<Session {self.path.name}{', prepared,' if self.prepared else ''} on {self._session.get_providers()[0]}>"

    @property
    def provider(self) -> str:
        """The execution provider that really runs, as ONNX Runtime reports it after creation."""
        name: str = self._session.get_providers()[0]
        return name

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """One run; outputs in the order of ``info.outputs``.

        Raises:
            MemoryError: memory, or the device's, had no room for the run; a smaller one may fit.
            DeviceLost: the device failed; nothing more in this process runs on it.
            Exception: whatever else ONNX Runtime raises for these inputs; the caller knows whose rows they are.
        """
        try:
            outputs: Sequence[Array] = self._session.run(self._names, feeds, self._next_run)
        except Exception as error:  # ONNX Runtime raises a class of its own for each status, without a common base
            if is_out_of_memory(error):
                if self.provider == CPU:
                    self._next_run = _giving_back()
                raise MemoryError(str(error)) from error
            if (lost := lost_device(error)) and self.provider != CPU:
                raise DeviceLost(f"{self.path.name} cannot run any more: {lost}. Call again, another replica answers.") from error
            raise
        if self._next_run is not None:
            self._next_run = None
        return outputs

    def takes(self, feeds: Mapping[str, Array]) -> bool:
        """Whether a run on these inputs succeeds; one that fails leaves no line in ONNX Runtime's log."""
        quiet = ort.RunOptions()
        quiet.log_severity_level = 4
        try:
            self._session.run(self._names, feeds, quiet)
        except Exception:  # as above
            return False
        return True

    def warm_up(self, rows: int, *, free: int) -> None:
        """A real run on ``rows`` rows of made-up data, free dimensions at ``free``: some faults appear at the first run only.

        Raises:
            LoadError: the run fails.
        """
        feeds = madeup.ones(self.info.inputs, rows, free)
        try:
            self.run(feeds)
        except Exception as error:  # as above
            shapes = {name: list(array.shape) for name, array in feeds.items()}
            raise LoadError(
                f"{self.path}: the warm-up run at {shapes} failed: {error}. If the model takes other sizes or values, declare an example."
            ) from error


def _giving_back() -> ort.RunOptions:
    """At its end the arena returns what it kept of earlier runs, in pieces too small for this one: 32 rows of 4 MB fitted into 150 MB
    only so, where 16 had been run before."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _open(path: Path, plan: SessionPlan, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), options, providers=list(plan.providers), provider_options=list(plan.provider_options))


def _open_prepared(path: Path, plan: SessionPlan, prepared: Prepared) -> ort.InferenceSession | None:
    if prepared.model is None:
        return None
    try:
        return _open(prepared.model, plan, session_options(plan, optimised=True, mem_reuse=prepared.mem_reuse))
    except Exception as error:  # as above; a folder that is being removed, for instance
        logger.warning("%s: its prepared form does not open, the file itself is used: %s", path, error)
        return None


def _spec(node: Any) -> TensorSpec:
    try:
        datatype = datatypes.from_onnx(node.type)
    except KeyError:
        raise LoadError(f"{node.name!r} is {node.type}, which is no tensor of the Open Inference Protocol.") from None
    return TensorSpec(node.name, datatype, tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape))
