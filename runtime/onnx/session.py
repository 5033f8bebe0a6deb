"""An ONNX model that runs: a session of one thread a run, safe to run from several worker threads at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime import datatypes
from runtime.errors import LoadError
from runtime.onnx.info import ModelInfo, shares_first_axis
from runtime.onnx.options import SessionPlan, refuse_missing, session_options
from runtime.tensors import TensorSpec

Array = NDArray[Any]


class Session:
    """One model, loaded.

    Args:
        path: the ``.onnx`` file.
        plan: providers and threads.

    Raises:
        LoadError: ONNX Runtime refuses the file, or the provider asked for is not the one that runs.
    """

    def __init__(self, path: Path, plan: SessionPlan) -> None:
        self.path = path
        try:
            self._session = ort.InferenceSession(
                str(path), session_options(plan), providers=list(plan.providers), provider_options=list(plan.provider_options)
            )
        except Exception as error:  # ONNX Runtime raises a class of its own for each status, without a common base
            raise LoadError(f"{path}: ONNX Runtime refuses the model: {error}") from error
        refuse_missing(plan, self._session.get_providers(), str(path))
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        batchable = bool(inputs) and shares_first_axis([node.shape for node in [*inputs, *outputs]])
        self.info = ModelInfo(tuple(map(_spec, inputs)), tuple(map(_spec, outputs)), batchable)
        self._names = [spec.name for spec in self.info.outputs]

    def __repr__(self) -> str:
        return f"<Session {self.path.name} on {self._session.get_providers()[0]}>"

    @property
    def provider(self) -> str:
        """The execution provider that really runs, as ONNX Runtime reports it after creation."""
        name: str = self._session.get_providers()[0]
        return name

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """One run; outputs in the order of ``info.outputs``.

        Raises:
            Exception: whatever ONNX Runtime raises for these inputs; the caller knows whose rows they are.
        """
        outputs: Sequence[Array] = self._session.run(self._names, feeds)
        return outputs

    def warm_up(self, rows: int, *, free: int) -> None:
        """A real run on ``rows`` rows of made-up data, free dimensions at ``free``: some faults appear at the first run only.

        Raises:
            LoadError: the run fails.
        """
        feeds = {spec.name: _made_up(spec, rows, free) for spec in self.info.inputs}
        try:
            self.run(feeds)
        except Exception as error:  # as above
            shapes = {name: list(array.shape) for name, array in feeds.items()}
            raise LoadError(
                f"{self.path}: the warm-up run at {shapes} failed: {error}. If the model takes other sizes or values, declare an example."
            ) from error


def _spec(node: Any) -> TensorSpec:
    try:
        datatype = datatypes.from_onnx(node.type)
    except KeyError:
        raise LoadError(f"{node.name!r} is {node.type}, which is no tensor of the Open Inference Protocol.") from None
    return TensorSpec(node.name, datatype, tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape))


def _made_up(spec: TensorSpec, rows: int, free: int) -> Array:
    """Ones: a valid token id, an attended position, a plain number."""
    dims = [rows if axis == 0 and dim == -1 else free if dim == -1 else dim for axis, dim in enumerate(spec.shape)]
    if spec.datatype == "BYTES":
        return np.full(dims, "warm-up", object)
    return np.ones(dims, datatypes.NUMPY[spec.datatype])
