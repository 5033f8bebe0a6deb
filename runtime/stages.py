"""One stage of a function, ready to run on rows: a Python callable, or an ONNX model.

The promise of a stage: a row that fails gets an error and nothing else happens to its batch-mates. A row-wise stage is called row
by row, so that holds by itself. A stage that takes all rows at once, and a model, are run again on halves of a batch that failed
(``runtime/halving``). So what a stage is given is not its own to change: where it may be given it a second time, arrays are read-only,
and a stage that writes into one fails at its first run instead of giving a neighbour's answer to the second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np

from runtime import datatypes
from runtime.batching.ceiling import Ceiling
from runtime.batching.collate import stack
from runtime.batching.rows import Row
from runtime.halving import as_row_error, halving
from runtime.onnx.resident import Kept, Part, whole
from runtime.onnx.session import Session
from runtime.signature import Signature
from runtime.tensors import TensorSpec

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""No names are declared."""


class Stage(Protocol):
    """A stage: gives each row without an error its values, or its error; as many rows come out as went in.

    ``run`` returns what batches are to be kept to if memory had no room for these rows at once, as ``halving`` does.
    """

    @property
    def name(self) -> str: ...
    def run(self, rows: Sequence[Row]) -> Ceiling | None: ...


class PythonStage:
    """A user's function, called once a row or once with all rows.

    Args:
        name: the stage's, and of its value when the return type names none.
        call: the function, or an object with ``__call__``.
        sources: names of the values it takes, in the order of its parameters.
        instead: by the name of a value that a row may be without, what it takes then.
        outputs: what the return type names, to the name of the value, where that is another.
        kind: which of the call's timings it counts for.

    Attributes:
        takes: names of the values it takes.
        gives: names of the values it gives.
    """

    def __init__(
        self,
        name: str,
        call: Callable[..., Any],
        signature: Signature,
        sources: Sequence[str],
        *,
        kind: str,
        instead: Mapping[str, Any] = NOTHING,
        outputs: Mapping[str, str] = NOTHING,
    ) -> None:
        self.name = name
        self.signature = signature
        self._call = call
        self._sources = self.takes = tuple(sources)
        self._instead = dict(instead)
        self._gives = [(given, outputs.get(given or name, given or name)) for given in signature.gives]
        self.gives = tuple(value for _, value in self._gives)
        self._single = self.gives[0] if set(signature.gives) == {""} else None
        self._kind = kind

    def run(self, rows: Sequence[Row]) -> Ceiling | None:
        """In a worker thread."""
        began = time.perf_counter()
        ceiling = None
        if self.signature.all_rows:
            ceiling = halving(rows, self._run_all, self.name)
        else:
            for row in rows:
                self._run_one(row)
        charge(rows, self._kind, time.perf_counter() - began)
        return ceiling

    async def run_on_loop(self, row: Row) -> None:
        """The coroutine form of a row-wise stage, on the event loop."""
        began = time.perf_counter()
        try:
            self._keep(row, await self._call(*self._taken(row)))
        except Exception as error:  # whatever a user's code raises is the row's fate
            row.error = as_row_error(error, row, self.name)
        charge((row,), self._kind, time.perf_counter() - began)

    def _run_one(self, row: Row) -> None:
        try:
            self._keep(row, self._call(*self._taken(row)))
        except BaseException as error:  # sys.exit included: it would end all rows of the batch
            row.error = as_row_error(error, row, self.name)

    def _taken(self, row: Row) -> list[Any]:
        values = row.values
        if self._instead:
            return [values[source] if source in values else self._instead[source] for source in self._sources]
        return [values[source] for source in self._sources]

    def _keep(self, row: Row, result: Any) -> None:
        if self._single is not None:
            row.values[self._single] = result
            return
        row.values.update([(value, result[name]) for name, value in self._gives])

    def _run_all(self, rows: Sequence[Row]) -> None:
        taken = zip(*[self._taken(row) for row in rows], strict=True)
        result = self._call(*[[_unwritable(value) for value in column] for column in taken])
        if self.signature.columns:
            columns = [self._counted(result[name], rows) for name in self.signature.gives]
            given = [list(zip(self.gives, values, strict=True)) for values in zip(*columns, strict=True)]
        elif self._single is not None:
            given = [[(self._single, value)] for value in self._counted(result, rows)]
        else:
            given = [[(value, of[name]) for name, value in self._gives] for of in self._counted(result, rows)]
        for row, values in zip(rows, given, strict=True):
            row.values.update(values)

    def _counted(self, result: Sequence[Any], rows: Sequence[Row]) -> Sequence[Any]:
        if len(result) != len(rows):
            raise ValueError(f"stage {self.name!r} got {len(rows)} rows and gave {len(result)}; it must give as many.")
        return result


class ModelStage:
    """An ONNX model: rows are stacked, padded where ragged, run once, and cut apart again.

    Args:
        sources: model input name to the name of the value that fills it.
        batchable: whether rows share a run; otherwise each row is a run of its own, its tensors as they are.
        pad: padding value by model input, 0 where not given.
        outputs: model output to the name of the value, where that is another.

    Attributes:
        takes: names of the values it takes.
        gives: names of the values it gives, in the order of the model's outputs.
        keep: of them, those that stay on the device of its session (``runtime/chains``), as parts that only models take.
    """

    def __init__(
        self,
        name: str,
        session: Session,
        sources: Mapping[str, str],
        *,
        batchable: bool,
        pad: Mapping[str, float],
        outputs: Mapping[str, str] = NOTHING,
    ) -> None:
        self.name = name
        self.session = session
        self.batchable = batchable
        ragged = [sources[spec.name] for spec in session.info.inputs if batchable and -1 in spec.shape[1:]]
        self._ragged = ragged[0] if ragged else None
        self._feeds = [(spec, datatypes.NUMPY[spec.datatype], sources[spec.name], pad.get(spec.name, 0)) for spec in session.info.inputs]
        self.takes = tuple(source for _, _, source, _ in self._feeds)
        self._outputs = {outputs.get(spec.name, spec.name): spec.name for spec in session.info.outputs}
        self.gives = tuple(self._outputs)
        self.keep: frozenset[str] = frozenset()

    @property
    def keeps_on(self) -> tuple[str, int] | None:
        """The device on which what it gives may stay for the next model; None: it comes to memory."""
        return self.session.keeps_on if self.batchable else None

    def measure(self, row: Row) -> None:
        """Sets a row's length and cost for the batching policy: the shape of its first tensor with free dimensions."""
        if self._ragged is None:
            row.length, row.cost = (), 0  # whatever it was to an earlier model
            return
        try:
            row.length = np.shape(row.values[self._ragged])
        except ValueError:  # nested lists that are no array: the run refuses this row, alone
            row.length = ()
        row.cost = math.prod(row.length)

    def run(self, rows: Sequence[Row]) -> Ceiling | None:
        """In a worker thread."""
        if self.batchable:
            return halving(rows, self._run_together, self.name)
        for row in rows:
            halving((row,), self._run_alone, self.name)
        return None

    def _run_together(self, rows: Sequence[Row]) -> None:
        began = time.perf_counter()
        resident = self._resident(rows)
        feeds = {
            spec.name: stack([_tensor(row.values[source], spec, dtype) for row in rows], pad)
            for spec, dtype, source, pad in self._feeds
            if source not in resident
        }
        ready = time.perf_counter()
        outputs = self._run_bound({**feeds, **self._by_input(resident)}) if self.keep or resident else self.session.run(feeds)
        ran = time.perf_counter()
        for name, output in zip(self.gives, outputs, strict=True):
            if len(output) != len(rows):
                raise ValueError(
                    f"{self.session.path.name} got {len(rows)} rows and gave {len(output)} of {name!r}; its first axis is no rows axis."
                )
        for name, output in zip(self.gives, outputs, strict=True):
            for row, value in zip(rows, output.rows() if isinstance(output, Kept) else output, strict=True):
                row.values[name] = value
        charge(rows, "batch", ready - began + time.perf_counter() - ran)
        charge(rows, "model", ran - ready)

    def _resident(self, rows: Sequence[Row]) -> Mapping[str, Kept]:
        """Values that these rows together have on the device."""
        if self.keeps_on is None:
            return NOTHING
        found = {source: whole([row.values[source] for row in rows]) for source in self.takes}
        return {source: kept for source, kept in found.items() if kept is not None}

    def _by_input(self, resident: Mapping[str, Kept]) -> dict[str, Kept]:
        return {spec.name: resident[source] for spec, _, source, _ in self._feeds if source in resident}

    def _run_bound(self, feeds: Mapping[str, np.ndarray[Any, Any] | Kept]) -> Sequence[np.ndarray[Any, Any] | Kept]:
        return self.session.run_keeping(feeds, frozenset(self._outputs[name] for name in self.keep))

    def _run_alone(self, rows: Sequence[Row]) -> None:
        began = time.perf_counter()
        (row,) = rows
        outputs = self.session.run({spec.name: _tensor(row.values[source], spec, dtype) for spec, dtype, source, _ in self._feeds})
        row.values.update(zip(self.gives, outputs, strict=True))
        charge(rows, "model", time.perf_counter() - began)


def _tensor(value: Any, spec: TensorSpec, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A row's value as the model's datatype: Python numbers take it, arrays must have it already."""
    if isinstance(value, np.ndarray):
        if value.dtype != dtype and not dtype.hasobject:
            raise ValueError(f"model input {spec.name!r} is {spec.datatype}, the stage before gave {value.dtype}.")
        return value
    if isinstance(value, Part):
        return _tensor(value.array(), spec, dtype)
    return np.asarray(value, dtype)


def _unwritable(value: Any) -> Any:
    """The same array, seen so that nobody can write into it; anything else as it is."""
    if type(value) is not np.ndarray or not value.flags.writeable:
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def charge(rows: Sequence[Row], kind: str, seconds: float) -> None:
    """Adds the time of a run to every call that had rows in it, once."""
    for call in {row.call for row in rows}:
        call.timings[kind] += seconds
