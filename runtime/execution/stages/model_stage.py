"""A stage that is an ONNX model: the values of its rows become tensors, are stacked, run and cut
apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from runtime.batching.bisection import BatchSizeCap, run_bisecting
from runtime.batching.calls import Row, add_timing
from runtime.errors import FunctionError
from runtime.onnx.session import Session, dummy_inputs
from runtime.types.returned_values import describe_value
from runtime.types.tensors import (
    NUMPY,
    Array,
    TensorSpec,
    UncastError,
    cast,
    row_slices,
    slice_row,
    stack,
)

Tensors = Mapping[str, np.ndarray[Any, Any]]
"""Arrays by model input."""


class ModelStage:
    """An ONNX model: rows of the same shapes are stacked, run once, and cut apart again.

    Args:
        sources: model input name to the name of the value that fills it.
        batchable: whether rows share a run; otherwise each row is a run of its own, its tensors as
            they are.
        pad: by model input, the number that pads its rows of different lengths; other inputs are
            never padded. Outputs are cut back to their row along axes that have the name of a
            padded one.
        outputs: model output to the name of the value, where that is another.

    Attributes:
        takes: names of the values it takes.
        gives: names of the values it gives, in the order of the model's outputs.
    """

    def __init__(
        self,
        name: str,
        session: Session,
        sources: Mapping[str, str],
        *,
        batchable: bool,
        pad: Mapping[str, float],
        outputs: Mapping[str, str],
    ) -> None:
        self.name = name
        self.session = session
        self.batchable = batchable
        self.pad = dict(pad) if batchable else {}
        self._ragged = [
            (sources[spec.name], spec.shape[1:] if spec.name in self.pad else None)
            for spec in session.info.inputs
            if batchable and -1 in spec.shape[1:]
        ]
        self._feeds = [
            (spec, NUMPY[spec.datatype], sources[spec.name]) for spec in session.info.inputs
        ]
        self._cuts = [
            row_slices(session.info.links.get(spec.name, ()), self.pad)
            for spec in session.info.outputs
        ]
        self.takes = tuple(source for _, _, source in self._feeds)
        self.gives = tuple(outputs.get(spec.name, spec.name) for spec in session.info.outputs)

    @property
    def is_ragged(self) -> bool:
        """Whether its rows may have different shapes; those do not share a run, or are padded."""
        return bool(self._ragged)

    def dummy_row(self, free: int) -> dict[str, Any]:
        """Made-up values for one row, by the names that it takes, free dimensions at ``free``."""
        made = dummy_inputs(self.session.info.inputs, 1, free)
        return {
            source: made[spec.name][0] if self.batchable else made[spec.name]
            for spec, _, source in self._feeds
        }

    def measure(self, row: Row) -> None:
        """Sets what the batching policy needs to know of a row: the shapes of all its tensors with
        free dimensions.
        """
        if not self._ragged:
            row.key, row.shapes, row.padded_size = (), (), 0  # set for an earlier model
            return
        try:
            shapes = [np.shape(row.values[source]) for source, _ in self._ragged]
        except ValueError:  # nested lists that are no array: the run refuses this row only
            row.key, row.shapes, row.padded_size = "no array", ((),), 1
            return
        row.shapes = tuple(dict.fromkeys(shapes))
        row.padded_size = max(map(math.prod, shapes))
        outlines = [
            shape if free is None else _fixed_axes(shape, free)
            for shape, (_, free) in zip(shapes, self._ragged, strict=True)
        ]
        row.key = (
            tuple(outlines)
            if len(row.shapes) == 1
            else (*outlines, tuple(map(row.shapes.index, shapes)))
        )

    def run(self, rows: Sequence[Row]) -> BatchSizeCap | None:
        """In a worker thread."""
        if self.batchable:
            return run_bisecting(rows, self._run_together, self.name)
        for row in rows:
            run_bisecting((row,), self._run_alone, self.name)
        return None

    def _run_together(self, rows: Sequence[Row]) -> None:
        began = time.perf_counter()
        try:
            tensors = {
                spec.name: [_tensor(row.values[source], spec, dtype, source) for row in rows]
                for spec, dtype, source in self._feeds
            }
        except UncastError as error:
            raise FunctionError(f"stage {self.name!r}: {error}.") from error
        feeds = {name: stack(of, self.pad.get(name)) for name, of in tensors.items()}
        ready = time.perf_counter()
        outputs = self.session.run(feeds)
        ran = time.perf_counter()
        self._count(outputs, len(rows))
        for name, output, axes in zip(self.gives, outputs, self._cuts, strict=True):
            values: Any = output
            if axes and len(rows) > 1:
                values = [
                    slice_row(value, axes, {name: of[index] for name, of in tensors.items()})
                    for index, value in enumerate(values)
                ]
            for row, value in zip(rows, values, strict=True):
                row.values[name] = value
        cut_s = time.perf_counter() - ran
        add_timing(rows, "batch", ready - began + cut_s)
        add_timing(rows, "model", ran - ready, self.name, cut_s)

    def tensors(self, values: Mapping[str, Any]) -> Tensors:
        """A row's values as the model's inputs, without the rows axis.

        Raises:
            UncastError: a value of another datatype.
            ValueError: one that is no array.
        """
        return {
            spec.name: _tensor(values[source], spec, dtype, source)
            for spec, dtype, source in self._feeds
        }

    def try_run(self, rows: Sequence[Tensors]) -> list[list[np.ndarray[Any, Any]]] | None:
        """Runs the model once, past the queues, to check it: by row, its outputs in the model's
        order; None if the run fails.

        Args:
            rows: by row, the inputs without the rows axis.

        Raises:
            ValueError: the model returns another number of rows.
        """
        feeds = {name: stack([row[name] for row in rows], self.pad.get(name)) for name in rows[0]}
        outputs = self.session.try_run(feeds)
        if outputs is None:
            return None
        self._count(outputs, len(rows))
        return [
            [
                slice_row(output[at, ...], axes, row)
                for output, axes in zip(outputs, self._cuts, strict=True)
            ]
            for at, row in enumerate(rows)
        ]

    def _count(self, outputs: Sequence[np.ndarray[Any, Any]], count: int) -> None:
        for spec, output in zip(self.session.info.outputs, outputs, strict=True):
            if not output.ndim:
                raise ValueError(
                    f"{self.session.path.name} gave {spec.name!r} of one row without an axis, so"
                    " its first axis is no rows axis; export it with the axis, as `squeeze(-1)` for"
                    " a `squeeze()`"
                )
            if len(output) != count:
                raise ValueError(
                    f"{self.session.path.name} got {count} rows and gave {len(output)} of "
                    f"{spec.name!r}; its first axis is no rows axis"
                )

    def _run_alone(self, rows: Sequence[Row]) -> None:
        began = time.perf_counter()
        (row,) = rows
        try:
            feeds = self.tensors(row.values)
        except UncastError as error:
            raise FunctionError(f"stage {self.name!r}: {error}.") from error
        outputs = self.session.run(feeds)
        row.values.update(zip(self.gives, outputs, strict=True))
        add_timing(rows, "model", time.perf_counter() - began, self.name)


def _fixed_axes(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the sizes of its free axes. Other sizes stay, so that a size that the model
    refuses is not padded to one that it takes.
    """
    return (
        tuple(-1 if want == -1 else size for size, want in zip(shape, wanted, strict=True))
        if len(shape) == len(wanted)
        else shape
    )


def _tensor(value: Any, spec: TensorSpec, dtype: np.dtype[Any], source: str) -> Array:
    """A row's value as the model's datatype: Python numbers take it, arrays must have it
    already.

    Raises:
        UncastError: the value is not of it, or loses something in it. ONNX Runtime would take None
            for NaN, and ``b"a"`` for the text ``b'a'``.
        ValueError: lists that are no array.
    """
    if isinstance(value, np.ndarray) and value.dtype == dtype and not dtype.hasobject:
        return value
    what = f"model input {spec.name!r} is {spec.datatype}, and the value {source!r}"
    if not isinstance(value, np.ndarray):
        try:
            return cast(value, spec.datatype)
        except UncastError as error:
            raise UncastError(
                f"{what} does not become it: {error}. Let its stage give {_FIXES[dtype.kind]}"
            ) from error
    if not dtype.hasobject:
        raise UncastError(
            f"{what} is an array of {value.dtype}. Let its stage give it as"
            f" `.astype(np.{dtype.name})`"
        )
    if value.dtype.kind != "U":
        _refuse_non_text(value, what)
    return value


def _refuse_non_text(value: Array, what: str) -> None:
    for element in value.reshape(-1).tolist():
        if not isinstance(element, str):
            raise UncastError(
                f"{what} has {describe_value(element)} in it. Let its stage give {_FIXES['O']}"
            )


_FIXES: Final = {
    "b": "true or false",
    "i": "integers in its range, or the model take another datatype",
    "u": "integers in its range, or the model take another datatype",
    "f": "numbers; for one that is not known, float('nan') where the model takes that",
    "O": "text; bytes become it by `.decode()`",
}
"""What a model takes, by the kind of its input's dtype."""
