"""What functions have counted in all processes of a cluster, for Triton's statistics extension.

Each process reports to the catalogue every second, and once more when it has answered its last
call; the question of the one that is asked has what it has counted meanwhile. So a function in one
process is counted to the last call, and one in several to within a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from deployments.observability.report_sending import Heartbeat
from runtime.errors import Unavailable
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.statistics import FunctionStatistics, StatisticsReport

logger = logging.getLogger("wakeful.statistics")

ANSWER_S: Final = 5.0
"""Longest wait for the catalogue."""

LAST_S: Final = 1.0
"""Likewise, of a process that ends."""


class ClusterStatistics:
    """Reads what was counted in all processes (``ReadStatistics``), for one that is asked, and
    reports what this one has counted when it ends. It asks the catalogue one question at a time,
    however many clients ask it: the catalogue decides on placement.

    Args:
        process: the replica's id.
        counters: of the process.
        heartbeat: to the catalogue; None, or one to none: this process alone is read.

    Mutable state: ``_asking``, a lock.
    """

    def __init__(
        self,
        process: str,
        counters: ProcessCounters,
        heartbeat: Callable[[], Heartbeat | None],
    ) -> None:
        self._process = process
        self._counters = counters
        self._heartbeat = heartbeat
        self._asking = asyncio.Lock()

    async def read(self, name: str) -> dict[str, FunctionStatistics]:
        """As of ``ReadStatistics``.

        Raises:
            Unavailable: the catalogue does not answer.
        """
        heartbeat = self._heartbeat()
        if heartbeat is None or not heartbeat.has_controller:
            found = {one.name: FunctionStatistics.of(one) for one in self._counters}
            return {name: found.get(name, FunctionStatistics())} if name else found
        try:
            async with asyncio.timeout(ANSWER_S), self._asking:
                if name:
                    report = StatisticsReport.of_one(self._counters, name)
                else:
                    report = StatisticsReport.of(self._counters)
                answer: dict[str, list[Any]] = await heartbeat.ask(
                    "read_statistics", self._process, report, name
                )
        except (RayServeException, RayError, TimeoutError) as error:
            logger.info("the catalogue does not answer: %s", error or "too slow")
            raise Unavailable(
                "the catalogue, which adds up what all processes have counted, does not answer; ask"
                " again in a moment."
            ) from error
        return {one: FunctionStatistics.from_list(data) for one, data in answer.items()}

    async def report_last(self) -> None:
        """Report what was counted until now, of a process that ends, is reported alive no longer
        and has answered all its calls. Never raises: Ray waits for its end.
        """
        heartbeat = self._heartbeat()
        if heartbeat is None or not heartbeat.has_controller:
            return
        try:
            async with asyncio.timeout(LAST_S):
                await heartbeat.ask(
                    "receive_counts", self._process, StatisticsReport.of(self._counters)
                )
        except Exception as error:  # Ray raises many types where the catalogue ends, too
            logger.info("the last counts are not known: %s", error or "too slow")
