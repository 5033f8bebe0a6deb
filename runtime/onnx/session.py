"""An ONNX model that runs: a session of one thread a run, safe to run from several worker threads at once."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from runtime import datatypes
from runtime.errors import DeviceLost, LoadError
from runtime.onnx import madeup
from runtime.onnx.faults import is_out_of_memory, lost_device
from runtime.onnx.info import ModelInfo, shares_first_axis
from runtime.onnx.missing import missing, preload
from runtime.onnx.options import CPU, CPU_PLAN, SessionPlan, session_options
from runtime.onnx.prepared import Prepared
from runtime.onnx.resident import Kept, run_bound
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
        keeps_on: the device on which outputs may stay for the next model; None: they come to memory.
        is_unproven: made-up data are not for this model, as its first run showed; only real ones tell whether it works.
        fallback: why the CPU runs it though the plan prefers a device, and does not insist; empty when the plan's first choice runs it.

    Mutable state: ``_next_run``, options that the run after one without memory has. Workers share it without a lock: at worst one more
    run has them.

    Raises:
        LoadError: ONNX Runtime refuses the file, or the provider asked for is not the one that runs.
    """

    def __init__(self, path: Path, plan: SessionPlan, prepared: Prepared | None = None) -> None:
        self.path = path
        self._plan = plan
        session = _open_prepared(path, plan, prepared) if prepared is not None else None
        self.prepared = session is not None
        self._session, fallback = (session, "") if session else _opened(path, plan)
        self.fallback = plan.fallback or fallback or _not_got(plan, self._session.get_providers(), path)
        self._records = plan.providers != (CPU,) and not fallback
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        batchable = bool(inputs) and shares_first_axis([node.shape for node in [*inputs, *outputs]])
        self.info = ModelInfo(tuple(map(_spec, inputs)), tuple(map(_spec, outputs)), batchable)
        self._names = [spec.name for spec in self.info.outputs]
        texts = any(spec.datatype == "BYTES" for spec in (*self.info.inputs, *self.info.outputs))
        self.keeps_on = None if self.fallback or texts or not batchable else plan.keeps_on
        self._next_run: ort.RunOptions | None = None
        self.is_unproven = False
        self._turn: AbstractContextManager[object] = threading.Lock() if plan.takes_one_run else nullcontext()

    def __repr__(self) -> str:
        return f"<Session {self.path.name}{', prepared,' if self.prepared else ''} on {self._session.get_providers()[0]}>"

    @property
    def provider(self) -> str:
        """The execution provider that really runs, as ONNX Runtime reports it after creation."""
        name: str = self._session.get_providers()[0]
        return name

    def nodes(self) -> Mapping[str, int]:
        """Nodes of the graph by the execution provider that has them; empty for a plan of the CPU alone, which has them all."""
        if not self._records:
            return {}
        counts = Counter[str]()
        for part in self._session.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
        return counts

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """One run; outputs in the order of ``info.outputs``.

        Raises: as ``run_keeping``.
        """
        try:
            with self._turn:
                outputs: Sequence[Array] = self._session.run(self._names, feeds, self._next_run)
        except Exception as error:  # ONNX Runtime raises a class of its own for each status, without a common base
            self._understand(error)
            raise
        self._next_run = None
        return outputs

    def run_keeping(self, feeds: Mapping[str, Array | Kept], keep: frozenset[str]) -> Sequence[Array | Kept]:
        """The same, on inputs that are on the device already or are not; of a session that has ``keeps_on``.

        Args:
            keep: names of outputs that stay there.

        Raises:
            MemoryError: memory, or the device's, had no room for the run; a smaller one may fit.
            DeviceLost: the device failed; nothing more in this process runs on it.
            Exception: whatever else ONNX Runtime raises for these inputs; the caller knows whose rows they are.
        """
        assert self.keeps_on is not None
        device = self.keeps_on
        try:
            with self._turn:
                outputs = run_bound(self._session, feeds, self._names, keep, device, self._next_run)
        except Exception as error:  # as above
            self._understand(error)
            raise
        self._next_run = None
        return outputs

    def _understand(self, error: Exception) -> None:
        """Raises what a failed run says of the machine; nothing where its rows may be at fault."""
        if is_out_of_memory(error):
            if (arena := self._plan.arena) is not None:
                self._next_run = _giving_back(arena)
            raise MemoryError(str(error)) from error
        if (lost := lost_device(error)) and self.provider != CPU:
            raise DeviceLost(f"{self.path.name} cannot run any more: {lost}. Call again, another replica answers.") from error

    def takes(self, feeds: Mapping[str, Array]) -> bool:
        """Whether a run on these inputs succeeds; one that fails leaves no line in ONNX Runtime's log."""
        quiet = ort.RunOptions()
        quiet.log_severity_level = 4
        try:
            self._session.run(self._names, feeds, quiet)
        except Exception:  # as above
            return False
        return True

    def warm_up(self, rows: int, *, free: int, is_first: bool = False) -> None:
        """A real run on ``rows`` rows of made-up data, free dimensions at ``free``: some faults appear at the first run only.

        Args:
            is_first: the model is being loaded. What has no rows often takes values that steer it (an axis, a shape, a split), which nobody
                can make up: on the CPU, such a model is then served without a first run, the log says so, and later tests are left out.

        Raises:
            LoadError: the run fails.
        """
        if self.is_unproven:
            return
        feeds = madeup.ones(self.info.inputs, rows, free)
        try:
            self.run(feeds)
        except Exception as error:  # as above
            if is_first and self.provider == CPU and not self.info.batchable and not isinstance(error, MemoryError):
                self.is_unproven = True
                said = str(error).splitlines()[0][:300]
                logger.warning("%s is served without a first run, which fails on made-up data (%s). Declare an example.", self.path, said)
                return
            shapes = {name: list(array.shape) for name, array in feeds.items()}
            raise LoadError(
                f"{self.path}: the warm-up run at {shapes} failed: {error}. If the model takes other sizes or values, declare an example."
            ) from error


def _giving_back(arena: str) -> ort.RunOptions:
    """At its end the arena returns what it kept of earlier runs, in pieces too small for this one: 32 rows of 4 MB fitted into 150 MB
    only so, where 16 had been run before."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
    return options


def _open(path: Path, plan: SessionPlan, options: ort.SessionOptions) -> ort.InferenceSession:
    if plan.providers[0] != CPU:
        preload()
    return ort.InferenceSession(str(path), options, providers=plan.for_ort(), enable_fallback=0)  # who falls back is said, here


def _opened(path: Path, plan: SessionPlan) -> tuple[ort.InferenceSession, str]:
    """A session, and why it is the CPU's where the plan does not insist on its device.

    Raises:
        LoadError: ONNX Runtime refuses the model, or the device that the plan insists on.
    """
    try:
        return _open(path, plan, session_options(plan)), ""
    except Exception as error:  # ONNX Runtime raises a class of its own for each status, without a common base
        if plan.required or plan.providers[0] == CPU:
            raise LoadError(f"{path}: ONNX Runtime refuses the model: {error}") from error
        why = f"{plan.providers[0]} refuses it: {error}"
    opened, _ = _opened(path, CPU_PLAN)
    logger.warning("%s runs on the CPU: %s", path, why)
    return opened, why


def _not_got(plan: SessionPlan, running: Sequence[str], path: Path) -> str:
    """Why the first provider of a plan is not the one that runs: ONNX Runtime itself falls back to the CPU with a line in its log.

    Raises:
        LoadError: and the plan insists.
    """
    first = plan.providers[0]
    if running[0] == first:
        return ""
    why = missing(first) or "ONNX Runtime could not start it; its own line in the log says why."
    if plan.required:
        raise LoadError(f"{path} was to run on {first} and runs on {running[0]}: {why}")
    logger.warning("%s was to run on %s and runs on %s: %s", path, first, running[0], why)
    return why


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
