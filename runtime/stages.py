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
from typing import Any, Protocol

import numpy as np

from runtime import datatypes
from runtime.batching.ceiling import Ceiling
from runtime.batching.collate import stack
from runtime.batching.rows import Row
from runtime.halving import as_row_error, halving
from runtime.onnx.session import Session
from runtime.signature import Signature
from runtime.tensors import TensorSpec


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
        kind: which of the call's timings it counts for.
    """

    def __init__(self, name: str, call: Callable[..., Any], signature: Signature, sources: Sequence[str], *, kind: str) -> None:
        self.name = name
        self.signature = signature
        self._call = call
        self._sources = tuple(sources)
        self._single = name if set(signature.gives) == {""} else None
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
            values = row.values
            self._keep(row, await self._call(*[values[source] for source in self._sources]))
        except Exception as error:  # whatever a user's code raises is the row's fate
            row.error = as_row_error(error, row, self.name)
        charge((row,), self._kind, time.perf_counter() - began)

    def _run_one(self, row: Row) -> None:
        values = row.values
        try:
            self._keep(row, self._call(*[values[source] for source in self._sources]))
        except BaseException as error:  # sys.exit included: it would end all rows of the batch
            row.error = as_row_error(error, row, self.name)

    def _keep(self, row: Row, result: Any) -> None:
        if self._single is not None:
            row.values[self._single] = result
            return
        row.values.update([(name, result[name]) for name in self.signature.gives])

    def _run_all(self, rows: Sequence[Row]) -> None:
        result = self._call(*[[_unwritable(row.values[source]) for row in rows] for source in self._sources])
        if self.signature.columns:
            columns = [self._counted(result[name], rows) for name in self.signature.gives]
            given = [list(zip(self.signature.gives, values, strict=True)) for values in zip(*columns, strict=True)]
        elif self._single is not None:
            given = [[(self._single, value)] for value in self._counted(result, rows)]
        else:
            given = [[(name, value[name]) for name in self.signature.gives] for value in self._counted(result, rows)]
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
        outputs: model output name to value name.
        batchable: whether rows share a run; otherwise each row is a run of its own, its tensors as they are.
        pad: padding value by model input, 0 where not given.
    """

    def __init__(self, name: str, session: Session, sources: Mapping[str, str], *, batchable: bool, pad: Mapping[str, float]) -> None:
        self.name = name
        self.session = session
        self.batchable = batchable
        ragged = [sources[spec.name] for spec in session.info.inputs if batchable and -1 in spec.shape[1:]]
        self._ragged = ragged[0] if ragged else None
        self._feeds = [(spec, datatypes.NUMPY[spec.datatype], sources[spec.name], pad.get(spec.name, 0)) for spec in session.info.inputs]
        self._outputs = [spec.name for spec in session.info.outputs]

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
        feeds = {
            spec.name: stack([_tensor(row.values[source], spec, dtype) for row in rows], pad) for spec, dtype, source, pad in self._feeds
        }
        ready = time.perf_counter()
        outputs = self.session.run(feeds)
        ran = time.perf_counter()
        for name, output in zip(self._outputs, outputs, strict=True):
            if len(output) != len(rows):
                raise ValueError(
                    f"{self.session.path.name} got {len(rows)} rows and gave {len(output)} of {name!r}; its first axis is no rows axis."
                )
        for name, output in zip(self._outputs, outputs, strict=True):
            for row, value in zip(rows, output, strict=True):
                row.values[name] = value
        charge(rows, "batch", ready - began + time.perf_counter() - ran)
        charge(rows, "model", ran - ready)

    def _run_alone(self, rows: Sequence[Row]) -> None:
        began = time.perf_counter()
        (row,) = rows
        outputs = self.session.run({spec.name: _tensor(row.values[source], spec, dtype) for spec, dtype, source, _ in self._feeds})
        row.values.update(zip(self._outputs, outputs, strict=True))
        charge(rows, "model", time.perf_counter() - began)


def _tensor(value: Any, spec: TensorSpec, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A row's value as the model's datatype: Python numbers take it, arrays must have it already."""
    if isinstance(value, np.ndarray):
        if value.dtype != dtype and not dtype.hasobject:
            raise ValueError(f"model input {spec.name!r} is {spec.datatype}, the stage before gave {value.dtype}.")
        return value
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
