"""The catalogue at its end. No Ray runs: its status is a fake."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.control.declarations import FunctionDeclaration
from deployments.control.orders import HostOrders, ReplicaOrders
from deployments.control.process_reports import HaproxyReport, HostReport, ReplicaReport
from deployments.observability.report_sending import CHANGED_REPORT_S
from deployments.placement import controller as module
from deployments.placement.captured_calls import CapturedCalls
from deployments.placement.catalogue import FORGOTTEN_S, SETTLED_S, Catalogue, ClusterTasks
from deployments.placement.controller import (
    CAPTURES_KEY,
    PersistedState,
    PlacementController,
    RayCalls,
)
from deployments.placement.key_publisher import KeyPublisher
from deployments.placement.placement import Placement
from deployments.placement.views.console_sources import ClusterConsole
from deployments.ray_support import secret_store
from deployments.ray_support.ray_internals import HeadStore
from deployments.ray_support.serve_status import pack_config
from deployments.scaling.tier_policy import DEFAULT
from deployments.serving.host import Host
from deployments.serving.ingress_address import ingress_address
from deployments.serving.remote_caller import HttpFunctionCaller
from runtime.declaration.function_spec import DEPLOYED
from runtime.http.catalogue.console.feed import ConsoleFeed
from runtime.http.catalogue.console.history import SHORT_S
from runtime.http.catalogue.task_routes.handler import TaskRoutes
from runtime.http.exchange import Request
from runtime.library.function_report import FunctionReport
from runtime.settings import Settings
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.statistics import (
    FunctionStatistics,
    StatisticsReport,
    StatisticsTable,
)
from tests.deployments.placement.placing import declaration
from tests.deployments.placement.simulated_ray import run_in_simulated_time


def count_call(counters: ProcessCounters, name: str, calls: int = 1) -> None:
    """Some calls of a function are over now."""
    counted = counters.of(name).calls
    for _ in range(calls):
        counted.record(200, "", 0.1, None)
    counted.answered_at = time.monotonic()


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that serves."""
    return "asyncio"


@pytest.mark.anyio
async def test_a_catalogue_that_ends_decides_on_placement_no_more(
    anyio_backend, monkeypatch, tmp_path
):
    """The one that takes its place does, while this one answers its last calls."""
    monkeypatch.setattr(module, "_fetch_apps", lambda: (time.monotonic(), {}))
    controller = PlacementController(
        "default", DEFAULT, 0, PersistedState("default"), {}, RayCalls()
    )
    caller = HttpFunctionCaller(ingress_address)
    settings = Settings(root=tmp_path, models=tmp_path, captures=tmp_path)
    captured = CapturedCalls(settings, PersistedState("default", CAPTURES_KEY), {})
    handler = TaskRoutes(ClusterTasks(controller.placement, caller, captured.captures))
    assert controller.is_healthy
    ending = SimpleNamespace(
        handler=handler,
        _controller=controller,
        _caller=caller,
        _captured=captured,
        _console=None,
        _publisher=KeyPublisher(dict, HeadStore, None),
    )
    await Catalogue.__del__(ending)
    assert not controller.is_healthy


@pytest.mark.anyio
async def test_a_secret_in_a_call_by_task_is_hidden_where_that_is_recorded(
    anyio_backend, monkeypatch, tmp_path
):
    """In the catalogue, which constructs no stage, of a function that names one."""
    values = {"m1": "canary4711", "m2": "another"}
    monkeypatch.setattr(
        secret_store, "fetch_secrets", lambda marks: {mark: values[mark] for mark in marks}
    )
    settings = Settings(root=tmp_path, models=tmp_path, captures=tmp_path / "captures")
    placement = Placement(DEFAULT)

    async def nothing(*of: object) -> None:
        """Neither the controller nor the policies are asked here."""

    controller = SimpleNamespace(placement=placement, declare=nothing)
    captured = CapturedCalls(settings, PersistedState("default", CAPTURES_KEY), {})
    recorded = {"rate": 1}
    functions = [
        FunctionDeclaration(
            name, f"/{name}", {"capture": recorded, **args}, is_always_own=False, version="v"
        ).to_dict()
        for name, args in (
            ("f", {"task": "embedding", DEPLOYED: {"secrets": {"KEY": "m1"}}}),
            ("g", {DEPLOYED: {"secrets": {"OTHER": "m2"}}}),
        )
    ]
    declaring = SimpleNamespace(
        _controller=controller,
        _secrets=settings.secrets,
        _captured=captured,
        _statistics=StatisticsTable(0.0),
        _console=None,
        _publisher=KeyPublisher(dict, HeadStore, None),
        _repository=SimpleNamespace(tell_policies=nothing),
    )
    await Catalogue.reconfigure(declaring, {"functions": pack_config(functions), "held": []})
    request = Request("POST", "/v1/embeddings", [(b"content-type", b"application/json")])
    ClusterTasks(placement, HttpFunctionCaller(ingress_address), captured.captures).count(
        request, "f"
    )
    assert request.record.recording is not None
    request.record.recording.keep_route("/v1/embeddings", "/v1/embeddings", None)
    request.body, request.record.status = b'{"input": "canary4711"}', 200
    request.end()
    captured.close()
    line = json.loads((tmp_path / "captures" / "f.jsonl").read_text().splitlines()[1])
    assert line["body"] == {"input": "${KEY}"}
    assert "warm" not in line  # the process that answers knows
    assert settings.secrets.hide("another") == "another"  # what is not recorded here is not known


@pytest.mark.anyio
async def test_the_catalogue_adds_up_what_processes_have_counted(anyio_backend, monkeypatch):
    """Those that report, and the one that asks; of all functions that clients may call."""
    counters = ProcessCounters()
    count_call(counters, "f")
    told = StatisticsReport.of(counters)
    functions = {
        name: SimpleNamespace(declaration=SimpleNamespace(part_of=part_of))
        for name, part_of in (("f", ""), ("g", ""), ("f.s", "f"))
    }
    table = StatisticsTable(time.monotonic())
    table.keep("host", told, time.monotonic())
    placement = SimpleNamespace(functions=functions)
    asked = SimpleNamespace(
        _statistics=table, _controller=SimpleNamespace(placement=placement), _settled_at=0.0
    )
    answer = await Catalogue.read_statistics(asked, "replica", told, "f")
    assert FunctionStatistics.from_list(answer["f"]).succeeded == 2
    answer = await Catalogue.read_statistics(asked, "replica", told, "")
    counts = {name: FunctionStatistics.from_list(one).succeeded for name, one in answer.items()}
    assert counts == {"f": 2, "g": 0}
    # and what was not called since is not added up again
    monkeypatch.setattr(FunctionStatistics, "__add__", lambda *of: pytest.fail("added up again"))
    told = replace(told, age_s=told.age_s + 1.0)
    assert await Catalogue.read_statistics(asked, "replica", told, "") == answer


def test_a_catalogue_that_has_just_started_adds_up_what_all_have_counted():
    """Those that report after the question, too: their calls are not fewer than before."""

    async def story() -> None:
        def told(process: str, calls: int) -> tuple[str, StatisticsReport, float]:
            counts = {"f": FunctionStatistics(succeeded=calls).to_list()}
            return process, StatisticsReport(counts, 900.0), time.monotonic()

        now = time.monotonic()
        table = StatisticsTable(now)
        started = SimpleNamespace(_statistics=table, _settled_at=now + SETTLED_S)
        question = Catalogue.read_statistics(started, *told("replica", 600)[:2], "f")
        answer = asyncio.create_task(question)
        await asyncio.sleep(1.0)
        table.keep(*told("host", 400))
        assert FunctionStatistics.from_list((await answer)["f"]).succeeded == 1000
        before = time.monotonic()
        await Catalogue.read_statistics(started, *told("replica", 600)[:2], "f")
        assert time.monotonic() == before  # simulated: it does not wait again

    run_in_simulated_time(story)


@pytest.mark.anyio
async def test_what_a_process_had_counted_when_it_ended_is_counted(anyio_backend):
    """And does not bring it back: nothing but the table hears of it."""
    counters, table = ProcessCounters(), StatisticsTable(time.monotonic())
    count_call(counters, "f", 3)
    asked = SimpleNamespace(_statistics=table)
    await Catalogue.receive_counts(asked, "replica", StatisticsReport.of(counters))
    assert table.of("f").succeeded == 3


@pytest.mark.anyio
async def test_a_function_that_is_declared_again_is_counted_at_once(anyio_backend, tmp_path):
    """Hosts report of it, and are asked for its statistics, while the controller declares it."""
    table, counters = StatisticsTable(0.0), ProcessCounters()
    for names in (["f"], []):
        table.declare(names)
    count_call(counters, "f")

    async def declare(*of: object) -> None:
        table.keep("host", StatisticsReport.of(counters), time.monotonic())

    async def nothing(*of: object) -> None:
        """Of all else nothing is asked here."""

    declaring = SimpleNamespace(
        _controller=SimpleNamespace(declare=declare),
        _secrets=Settings(root=tmp_path, models=tmp_path).secrets,
        _captured=SimpleNamespace(declare=nothing),
        _statistics=table,
        _console=None,
        _publisher=SimpleNamespace(notify_declared=lambda: None),
        _repository=SimpleNamespace(tell_policies=nothing),
    )
    functions = pack_config([declaration().to_dict()])
    await Catalogue.reconfigure(declaring, {"functions": functions, "held": []})
    assert table.of("f").succeeded == 1


def test_a_catalogue_that_has_just_started_shows_what_is_loaded():
    """It took the place of one that died: hosts report to it once a second, and until then all their
    functions would be shown as asleep.
    """

    async def story() -> None:
        placement = Placement(DEFAULT)
        placement.declare([declaration()], time.monotonic())

        async def latest_apps(max_age_s: float) -> dict[str, Any]:
            return {}

        started = SimpleNamespace(
            _settled_at=time.monotonic() + SETTLED_S,
            _controller=SimpleNamespace(placement=placement, latest_apps=latest_apps),
        )
        told = asyncio.create_task(Catalogue.index(started))
        await asyncio.sleep(1.0)
        report = HostReport("h", functions={"f": FunctionReport()})
        placement.receive_host_report(report, time.monotonic(), time.time())
        assert [(one["name"], one["state"]) for one in await told] == [("f", "ready")]
        before = time.monotonic()
        assert len(await Catalogue.index(started)) == 1
        assert time.monotonic() == before  # simulated: it does not wait again

    run_in_simulated_time(story)


class ReportingHost:
    """A shared host, as far as it reports and takes orders: no function is loaded in it.

    Mutable state: ``counters``; ``host``, what the methods of ``Host`` work on; ``is_asked``: its
    next report is not to wait.
    """

    def __init__(self, name: str) -> None:
        self.counters = ProcessCounters()
        self.is_asked = False
        library = SimpleNamespace(
            counters=self.counters,
            report=dict,
            used_bytes=lambda: 0,
            budget_bytes=None,
            metrics=SimpleNamespace(text=lambda: b""),
            keep_awake=lambda names: None,
        )
        self.host = SimpleNamespace(
            _id=name,
            _reports=0,
            _reported_at=0.0,
            _crashes=(),
            _declared_hash="",
            address="",
            _node_ip="",
            _router=None,
            _quarantined={},
            _library=library,
            _captures=SimpleNamespace(order=lambda orders: None),
            _on_change=self._on_change,
        )

    def _on_change(self, name: str) -> None:
        self.is_asked = True

    async def report_to(self, catalogue: SimpleNamespace) -> None:
        """Tell it once, and again where it asks for that."""
        for _ in range(2):
            self.is_asked = False
            report = Host._make_report(self.host)
            Host._on_orders(self.host, await Catalogue.receive_report(catalogue, report))
            if not self.is_asked:
                return
            await asyncio.sleep(CHANGED_REPORT_S)
        raise AssertionError("a host is asked again and again")


def begin_catalogue(placement: Placement) -> SimpleNamespace:
    """A catalogue that gives no orders, as far as it takes reports."""

    async def receive_report(report: HostReport | ReplicaReport) -> HostOrders | ReplicaOrders:
        return HostOrders() if isinstance(report, HostReport) else ReplicaOrders()

    return SimpleNamespace(
        _statistics=StatisticsTable(time.monotonic()),
        _controller=SimpleNamespace(placement=placement, receive_report=receive_report),
        _captured=SimpleNamespace(orders=lambda of: {}),
        _console=None,
        _keep_metrics=lambda report: None,
    )


def test_the_past_of_processes_is_no_traffic_of_a_catalogue_that_has_just_started(monkeypatch):
    """Whenever a process tells it: a host that says most often what was called lately, one that is
    heard of when the history has begun, a replica. What is called since is all there.
    """
    monkeypatch.setattr("deployments.serving.host.find_crash_reports", tuple)
    nothing: Any = None

    async def story() -> dict[str, list[Any]]:
        began, placement = time.monotonic(), Placement(DEFAULT)
        placement.declare([declaration(name) for name in ("f", "g", "own", "new")], began)
        first, second, replica = ReportingHost("h1"), ReportingHost("h2"), ProcessCounters()
        for counters, name in (
            (first.counters, "f"),
            (first.counters, "g"),
            (second.counters, "f"),
            (replica, "own"),
        ):
            count_call(counters, name, 500)
        await asyncio.sleep(60.0)
        count_call(first.counters, "f")
        before = begin_catalogue(placement)
        for _ in range(3):
            await first.report_to(before)
            await second.report_to(before)
        await asyncio.sleep(40.0)

        catalogue = begin_catalogue(placement)
        console = ClusterConsole(
            "s", "", placement, catalogue._statistics, nothing, nothing, list, dict
        )
        sources = console.console.feed._sources
        feed = ConsoleFeed(sources, clock=lambda: time.monotonic() - began)
        feed.start()  # at 100 s

        async def report(replica: ProcessCounters, name: str) -> None:
            told = ReplicaReport(
                name, name, FunctionReport(), statistics=StatisticsReport.of(replica)
            )
            await Catalogue.receive_report(catalogue, told)

        await asyncio.sleep(0.2)
        await first.report_to(catalogue)
        await asyncio.sleep(1.5)
        count_call(first.counters, "g")  # not called for long
        count_call(second.counters, "f", 2)
        await first.report_to(catalogue)
        await report(replica, "own")
        await asyncio.sleep(2.0)
        await second.report_to(catalogue)
        count_call(second.counters, "f", 3)
        count_call(replica, "own", 4)
        new = ProcessCounters()
        count_call(new, "new", 5)
        await second.report_to(catalogue)
        await report(replica, "own")
        await report(new, "new")
        await asyncio.sleep(30.0)
        await feed.close()
        return {name: feed.history.of(name, SHORT_S)["calls"] for name in placement.functions}

    shown = run_in_simulated_time(story)
    assert shown == {"f": [3, 0, 0], "g": [1, 0, 0], "own": [4, 0, 0], "new": [5, 0, 0]}


def test_the_haproxy_of_each_machine_is_on_the_page_of_metrics():
    """As one process there reports it; that of the catalogue's own machine is asked when metrics are.
    One of which nothing is heard is forgotten.
    """
    told = SimpleNamespace(_metrics={}, _machine="10.0.0.1")
    for machine in ("10.0.0.1", "10.0.0.2"):
        report = HostReport(f"h-{machine}", haproxy=HaproxyReport(machine, f"of {machine}"))
        Catalogue._keep_metrics(told, report)
    assert {name: text for name, (_, text) in told._metrics.items()} == {
        "haproxy-10.0.0.2": "of 10.0.0.2"
    }
    told._metrics["haproxy-10.0.0.2"] = (time.monotonic() - FORGOTTEN_S - 1, "of 10.0.0.2")
    Catalogue._keep_metrics(told, HostReport("h"))
    assert told._metrics == {}
