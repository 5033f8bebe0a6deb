"""Reports on their way to the placement controller, whose end is a fake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from ray import serve

from deployments.control.orders import ReplicaOrders
from deployments.control.process_reports import HaproxyReport, ReplicaReport
from deployments.observability.report_sending import Heartbeat
from runtime.library.function_report import FunctionReport

HAPROXY = HaproxyReport("m", "haproxy_up 1\n")


@pytest.fixture
def first_report(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ReplicaReport]:
    """Begins a heartbeat, which is closed as soon as its first report has come, and returns that."""

    def begin(
        make_report: Callable[[], ReplicaReport], read_haproxy: Callable[[], HaproxyReport]
    ) -> ReplicaReport:
        async def main() -> ReplicaReport:
            received: asyncio.Future[ReplicaReport] = asyncio.get_running_loop().create_future()

            async def receive_report(report: ReplicaReport) -> ReplicaOrders:
                received.set_result(report)
                return ReplicaOrders()

            handle = SimpleNamespace(receive_report=SimpleNamespace(remote=receive_report))
            monkeypatch.setattr(serve, "get_app_handle", lambda name: handle)
            heartbeat = Heartbeat("catalogue", make_report, lambda orders: None, read_haproxy)
            report = await received
            async with asyncio.timeout(5.0):
                await heartbeat.close()
            return report

        return asyncio.run(main())

    return begin


def test_a_report_says_what_there_is_when_it_is_sent(first_report):
    """And not what there was before HAProxy answered, which may take a second. A process that ends
    while the answer comes ends.
    """
    state = "before"

    def read_haproxy() -> HaproxyReport:
        nonlocal state
        state = "after"
        return HAPROXY

    report = first_report(
        lambda: ReplicaReport("r", "f", FunctionReport(state=state)), read_haproxy
    )
    assert (report.haproxy, report.function.state) == (HAPROXY, "after")
