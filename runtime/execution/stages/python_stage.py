"""A stage that is a Python callable: called with the values of a row, or of all rows; what it
returns is stored by name.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime.artifacts.tracebacks import place_of
from runtime.batching.bisection import BatchSizeCap, run_bisecting, to_row_error
from runtime.batching.calls import Row, add_timing
from runtime.batching.reservation import CURRENT_ROW, set_held
from runtime.errors import FunctionError
from runtime.graph.python_stages.signature import Signature
from runtime.graph.request_fields import CalledValues
from runtime.types.own_values import CONTAINERS, own_default, own_value
from runtime.types.returned_values import DeclaredReturn, UnlikeError, describe_value


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
        defaults: Mapping[str, Any],
        outputs: Mapping[str, str],
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
            arguments = [
                own_value(value) if type(value := values[source]) in CONTAINERS else value
                for source in self._sources
            ]
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


def is_task_cancelled(error: BaseException) -> bool:
    """Whether an exception of a coroutine ends the task that runs it, and is not an error of the
    coroutine: a ``CancelledError`` may come from another task that it waited for.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, GeneratorExit)
