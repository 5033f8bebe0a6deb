"""One stage of a function, ready to run on rows: a Python callable, or an ONNX model.

The promise of a stage: a row that fails gets an error, and its batch-mates are not affected. A
row-wise stage is called row by row, so that holds by itself. A stage that takes all rows at once,
and a model, run again on halves of a batch that failed (``runtime.batching.bisection``). So a stage
is given its own copy of lists and dicts, and arrays are read-only: what it changes is seen by no
other run, stage or row (``runtime.types.own_values``).
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from runtime.artifacts.tracebacks import place_of
from runtime.batching.bisection import BatchSizeCap, run_bisecting, to_row_error
from runtime.batching.calls import Row
from runtime.batching.reservation import CURRENT_ROW, set_held
from runtime.errors import FunctionError
from runtime.graph.python_stages.signature import Signature
from runtime.graph.request_fields import CalledValues
from runtime.onnx.session import Session, dummy_inputs
from runtime.types.own_values import own_default, own_value
from runtime.types.returned_values import DeclaredReturn, UnlikeError, describe_value
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

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""No names are declared."""


class PythonStage:
    """A user's function, called once a row or once with all rows.

    Args:
        name: of the stage, and of its value when the return type names none.
        call: the function, or an object with ``__call__``; may be replaced by another such object.
        sources: names of the values it takes, in the order of its parameters.
        defaults: by the name of a value that a row may lack, what the stage takes then.
        outputs: name in the return type to the name of the value, where that is another.
        kind: the timing of the call that it counts for.
        called: reads those of its arguments that other functions gave; None: there are none.

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
        defaults: Mapping[str, Any] = NOTHING,
        outputs: Mapping[str, str] = NOTHING,
        called: CalledValues | None = None,
    ) -> None:
        self.name = name
        self.signature = signature
        self.call = call
        self._called = called
        self._sources = self.takes = tuple(sources)
        self._defaults = dict(defaults)
        self._gives = [
            (
                given,
                outputs.get(given or name, given or name),
                *_checks(signature.returns.get(given)),
            )
            for given in signature.gives
        ]
        self.gives = tuple(value for _, value, _, _ in self._gives)
        self._single = self.gives[0] if set(signature.gives) == {""} else None
        self._usual = self._gives[0][2] or frozenset() if self._single is not None else frozenset()
        self._lacking = frozenset(given for given, kind in signature.gives.items() if kind.may_lack)
        self._kind = kind

    def run(self, rows: Sequence[Row]) -> BatchSizeCap | None:
        """In a worker thread."""
        began = time.perf_counter()
        cap = None
        if self.signature.takes_rows:
            cap = run_bisecting(rows, self._run_all, self.name)
        else:
            for row in rows:
                self._run_one(row)
        add_timing(rows, self._kind, time.perf_counter() - began, self.name)
        return cap

    async def run_on_loop(self, row: Row) -> None:
        """The coroutine form of a row-wise stage, on the event loop."""
        began = time.perf_counter()
        CURRENT_ROW.set(row)  # of this task's context, which ends with it
        try:
            result = self.call(*self._arguments(row))
            self._store(row, await result if inspect.isawaitable(result) else result)
        # any exception of a user's code is the row's error, sys.exit included
        except BaseException as error:
            if is_task_cancelled(error):
                raise
            row.error = to_row_error(error, row, self.name)
        add_timing((row,), self._kind, time.perf_counter() - began, self.name)

    def _run_one(self, row: Row) -> None:
        CURRENT_ROW.set(row)
        try:
            self._store(row, self.call(*self._arguments(row)))
        except BaseException as error:  # sys.exit included: it would end all rows of the batch
            row.error = to_row_error(error, row, self.name)
        finally:
            CURRENT_ROW.set(None)

    def _arguments(self, row: Row) -> list[Any]:
        """The stage's arguments of a row, for it alone."""
        values = row.values
        if self._defaults:
            arguments = [
                own_value(values[source])
                if source in values
                else own_default(self._defaults[source])
                for source in self._sources
            ]
        else:
            arguments = [own_value(values[source]) for source in self._sources]
        return arguments if self._called is None else self._read(arguments, values, self._called)

    def _read(
        self, arguments: list[Any], values: Mapping[str, Any], called: CalledValues
    ) -> list[Any]:
        """The arguments with what functions gave as it is annotated.

        Raises:
            FunctionError: it is something else.
        """
        names = [param.name for param in self.signature.params]
        read = called.read(
            {
                name: argument
                for name, source, argument in zip(names, self._sources, arguments, strict=True)
                if name in called.names and source in values
            }
        )
        return [read.get(name, argument) for name, argument in zip(names, arguments, strict=True)]

    def _store(self, row: Row, result: Any) -> None:
        if self._single is not None and type(result) in self._usual:
            row.values[self._single] = result
            return
        row.values.update(self._named(result))
        if self._lacking:
            self._drop_lacking(row, result)

    def _named(self, result: Any) -> list[tuple[str, Any]]:
        """What it returned for one row, by the names of the values.

        Raises:
            FunctionError: it is not what the stage's return type says.
        """
        if self._single is not None:
            ((_, name, quick, look),) = self._gives
            if quick is None or type(result) in quick:
                return [(name, result)]
            try:
                return [(name, look(result))]
            except UnlikeError as error:
                raise self._unlike(f" returned {error}") from error
        if type(result) is not dict and not isinstance(result, Mapping):
            raise self._unlike(f" returned {describe_value(result)}; {self.signature.expected}")
        values = []
        for given, name, quick, look in self._gives:
            if given in result:
                value = result[given]
                values.append(
                    (
                        name,
                        value
                        if quick is None or type(value) in quick
                        else self._as_declared(given, value, look),
                    )
                )
            elif given not in self._lacking:
                raise self._unlike(f" did not give {given!r}; {self.signature.expected}")
        return values

    def _as_declared(self, given: str, value: Any, look: Callable[[Any], Any]) -> Any:
        try:
            return look(value)
        except UnlikeError as error:
            raise self._unlike(f": {given!r} is {error}") from error

    def _unlike(self, what: str) -> FunctionError:
        """The error of what it returned, with its place in the code for the log."""
        error = FunctionError(f"stage {self.name!r}{what}.")
        if place := place_of(self.call):
            error.add_note(f"  {place}")
        return error

    def _drop_lacking(self, row: Row, result: Mapping[str, Any]) -> None:
        """Removes values that this stage did not give and that an earlier stage gave under the same
        name.
        """
        for given, name, _, _ in self._gives:
            if given not in result:
                row.values.pop(name, None)

    def _run_all(self, rows: Sequence[Row]) -> None:
        taken = zip(*[self._arguments(row) for row in rows], strict=True)
        first, held = rows[0], rows[0].held
        CURRENT_ROW.set(first)
        try:
            result = self.call(*map(list, taken))
        except BaseException:
            set_held(first, held)  # each half runs again, and reserves again
            raise
        finally:
            CURRENT_ROW.set(None)
        if self.signature.gives_columns:
            if not isinstance(result, Mapping):
                raise self._unlike(f" returned {describe_value(result)}; {self.signature.expected}")
            names = [given for given, *_ in self._gives if given in result]
            columns = [self._counted(result[given], rows) for given in names]
            results: Sequence[Any] = [
                dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)
            ] or [{}] * len(rows)
        else:
            results = self._counted(result, rows)
        for row, of in zip(rows, results, strict=True):
            try:
                self._store(row, of)
            except FunctionError as error:  # its neighbours are right
                row.error = to_row_error(error, row, self.name)

    def _counted(self, result: Any, rows: Sequence[Row]) -> Sequence[Any]:
        try:
            count = len(result)
        except TypeError:
            raise self._unlike(
                f" returned {describe_value(result)}; a list is declared, one element a row"
            ) from None
        if count != len(rows):
            raise self._unlike(f" got {len(rows)} rows and gave {count}; it must give as many")
        counted: Sequence[Any] = result
        return counted


def _checks(declared: DeclaredReturn | None) -> tuple[frozenset[type] | None, Callable[[Any], Any]]:
    return (None, _as_it_is) if declared is None else (declared.quick, declared.look)


def _as_it_is(value: Any) -> Any:
    return value


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
        outputs: Mapping[str, str] = NOTHING,
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


def is_task_cancelled(error: BaseException) -> bool:
    """Whether an exception of a coroutine ends the task that runs it, and is not an error of the
    coroutine: a ``CancelledError`` may come from another task that it waited for.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, GeneratorExit)


def add_timing(
    rows: Sequence[Row], kind: str, seconds: float, stage: str = "", before_s: float = 0.0
) -> None:
    """Adds the time of a run to every call that had rows in it, once.

    Args:
        stage: that ran, for traces; empty: it is no run of a whole stage.
        before_s: seconds ago at which the run ended.
    """
    for call in {row.call for row in rows}:
        call.timings[kind] += seconds
        if call.trace is not None and stage:
            call.trace.add_until_now("stage", stage, seconds, before_s)
