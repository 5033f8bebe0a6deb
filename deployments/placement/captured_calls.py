"""The recorded calls of a cluster: which functions are captured, where the catalogue has this from
their declarations and from an operator, and the files, which it writes for all processes.

An operator's order lives as long as the cluster, or until its time: it is persisted where the
placement controller has what it must know after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from deployments.control.declarations import FunctionDeclaration
from deployments.observability.capture_sending import CaptureBatch
from deployments.placement.controller import ANSWER_S, PersistedState
from runtime.declaration.sections import CaptureSpec
from runtime.library.capture.captures import CapturedFunction, Captures, FileStore, Order
from runtime.library.capture.control import CaptureStatus, LocalCaptures
from runtime.settings import Settings
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.function_metrics import write_metrics

WINDOW_S: Final = 4.0
"""How long a line is held from its call's arrival: those of other processes come within a second or
two.
"""

MOST_SOURCES: Final = 10_000
"""Processes whose last batch is remembered."""


class CapturedCalls:
    """Implements ``runtime.library.capture.control.CaptureControl`` for a cluster, and takes what
    its processes have recorded. Used on the catalogue's event loop.

    Args:
        persisted: keeps the orders of operators.
        before: what it had before a restart.

    Attributes:
        captures: records what the catalogue itself answers: calls by task.

    Mutable state: by process ``_numbers`` (of the last batch) and ``_lost`` (by function);
    ``_written``, the orders that were written last, and ``_is_written`` (nothing was begun to be
    written since: what did not end in time may land yet).
    """

    def __init__(
        self, settings: Settings, persisted: PersistedState, before: Mapping[str, Any]
    ) -> None:
        self._persisted = persisted
        self._written = {name: Order(*of) for name, of in before.items()}
        self._is_written = True
        self._is_declared = False
        self._lock = asyncio.Lock()
        # the control store may not answer, and what is looked up needs the loop's own threads
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="captures")
        self._counters = ProcessCounters()
        store = FileStore(settings.captures, self._counters, WINDOW_S)
        self.captures = Captures(self._counters, store, settings.secrets)
        self._local = LocalCaptures(self.captures, self._counters, settings.captures)
        self._numbers: dict[str, int] = {}
        self._lost: dict[str, dict[str, int]] = {}

    async def declare(self, declarations: Iterable[FunctionDeclaration]) -> None:
        """These functions are declared. To parse all of a large file takes seconds, so no more is
        read than is wanted here.

        Raises:
            TimeoutError: orders have ended with their functions, and that is not written, yet.
        """
        self.captures.declare(
            CapturedFunction(
                one.name,
                one.url,
                CaptureSpec.model_validate(one.args.get("capture", {})),
                one.version,
                "sequences" in one.args,
            )
            for one in declarations
            if not one.part_of
        )
        if not self._is_declared:
            self._is_declared = True
            self.captures.order(self._written)  # from before a restart
        await self._persist()  # those of functions that are gone have ended

    def receive(self, batch: CaptureBatch) -> None:
        """Keep the lines of a process; those of a batch that has come before are not kept again."""
        if self._numbers.get(batch.source, 0) >= batch.number:
            return
        self._numbers.pop(batch.source, None)
        self._numbers[batch.source] = batch.number
        self._lost[batch.source] = dict(batch.lost)
        if len(self._numbers) > MOST_SOURCES:
            oldest = next(iter(self._numbers))
            del self._numbers[oldest], self._lost[oldest]
        for function, lines in batch.lines.items():
            self.captures.put_lines(function, lines)

    def orders(self, function: str = "") -> dict[str, Order]:
        """What operators have ordered, of one function or of all."""
        orders = self.captures.orders
        return {name: orders[name] for name in orders if function in ("", name)}

    async def start(self, name: str, order: Order) -> CaptureStatus:
        """See ``CaptureControl``.

        Raises:
            TimeoutError: it is not written, yet.
        """
        status = await self._local.start(name, order)
        await self._persist()
        return self._with_losses(name, status)

    async def stop(self, name: str) -> CaptureStatus:
        """See ``CaptureControl``. Raises as ``start``."""
        status = await self._local.stop(name)
        await self._persist()
        return self._with_losses(name, status)

    async def status(self, name: str) -> CaptureStatus:
        """See ``CaptureControl``."""
        return self._with_losses(name, await self._local.status(name))

    def metrics(self) -> str:
        """What was written and lost here, in Prometheus' text form; empty where nothing was."""
        return write_metrics(self._counters) if any(True for _ in self._counters) else ""

    def close(self) -> None:
        """Write what is left. Blocks for seconds at most."""
        self._writing.shutdown(wait=False, cancel_futures=True)
        self.captures.close()

    async def _persist(self) -> None:
        async with self._lock:
            orders = dict(self.captures.orders)
            if orders != self._written or not self._is_written:
                self._is_written = False
                data = {name: list(order) for name, order in orders.items()}
                writing = asyncio.get_running_loop().run_in_executor(
                    self._writing, self._persisted.write, data
                )
                async with asyncio.timeout(ANSWER_S):
                    await writing
                self._written, self._is_written = orders, True

    def _with_losses(self, name: str, status: CaptureStatus) -> CaptureStatus:
        """With what processes have lost on the way here."""
        lost = sum(of.get(name, 0) for of in self._lost.values())
        return status.adding(0, lost)
