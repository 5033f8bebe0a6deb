"""The end of a host or a replica; what it holds by then is a fake."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.observability.statistics import ClusterStatistics
from deployments.serving.host import Host
from deployments.serving.replica import Replica
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.statistics import FunctionStatistics


class CatalogueHeartbeat:
    """A heartbeat to it.

    Attributes:
        seen: what has come of the process, in order.
    """

    has_controller = True

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def close(self) -> None:
        """It is alive no longer."""
        self.seen.append("ends")

    async def ask(self, method: str, process: str, report: Any) -> None:
        """The process reports its counts."""
        self.seen.append(FunctionStatistics.from_list(report.functions["f"]).succeeded)


class LastCall:
    """A handler of one call, which is answered while the process ends."""

    def __init__(self, counters: ProcessCounters) -> None:
        self.counters = counters
        self.looks = 0

    @property
    def exchanges(self) -> int:
        """Calls under way."""
        self.looks += 1
        if self.looks == 2:
            self.counters.of("f").calls.record(200, "", 0.1, None)
        return int(self.looks < 2)


class RestClosed(Exception):
    """All else is closed from here on."""


@pytest.mark.parametrize("kind", [Host, Replica])
def test_calls_that_are_answered_while_a_process_ends_are_counted(kind: Any):
    """It is alive no longer before they are, and reports once more behind them."""
    counters, catalogue = ProcessCounters(), CatalogueHeartbeat()
    counters.of("f").calls.record(200, "", 0.1, None)

    def close() -> None:
        raise RestClosed

    spec = SimpleNamespace(limits=SimpleNamespace(request_timeout_s=30.0))
    ending = SimpleNamespace(
        handler=LastCall(counters),
        _heartbeat=catalogue,
        _statistics=ClusterStatistics("me", counters, lambda: catalogue),  # type: ignore[arg-type, return-value]
        _library=SimpleNamespace(entries=[SimpleNamespace(spec=spec)]),
        _function=SimpleNamespace(spec=spec),
        _unloader=SimpleNamespace(cancel=close),
        _captures=SimpleNamespace(close=close),
    )
    with pytest.raises(RestClosed):
        asyncio.run(kind.__del__(ending))
    assert catalogue.seen == ["ends", 2]
