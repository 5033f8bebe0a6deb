"""Spans, at a receiver of OpenTelemetry's own protocol."""

from __future__ import annotations

import asyncio
import gzip
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError
from runtime.graph.resolve import resolve
from runtime.settings import Settings
from runtime.system.telemetry.access_log import AccessRecord
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.exports import SPAN_EXPORTER, Exports
from runtime.system.telemetry.spans import TracedCall, spans_of
from runtime.system.telemetry.trace import CallTrace, Part
from tests import onnx_models
from tests.sleepers import Served, run, serving

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

TIMINGS = {"queue": 0.001, "batch": 0.0, "preprocess": 0.0, "model": 0.1, "postprocess": 0.0}
RECORD = AccessRecord(0.0, b"id", "f", 500, "function_failed", 1, 2, 1.0, TIMINGS, 3, 0.2)


@pytest.mark.parametrize(
    ("status", "is_error"),
    [
        (200, False),
        (400, False),
        (404, False),
        (429, False),
        (499, False),
        (500, True),
        (503, True),
    ],
)
def test_a_mistake_of_the_client_is_no_error_of_the_server(status, is_error):
    """As OpenTelemetry wants it of a span of kind server."""
    call = TracedCall(RECORD._replace(status=status), CallTrace(1, 2, 9, is_sampled=True), 10.0)
    (root, *_) = spans_of(call, 0.0)
    assert root.is_error is is_error


@pytest.mark.parametrize("key", ["", "ops"])
def test_a_call_has_the_name_of_its_key(key):
    """Where it came with one."""
    call = TracedCall(RECORD._replace(key=key), CallTrace(1, 2, 9, is_sampled=True), 10.0)
    (root, *_) = spans_of(call, 0.0)
    assert root.attributes.get("wakeful.key", "") == key


def test_a_stage_is_in_the_batch_that_ran_it_and_a_hop_has_what_its_function_did():
    """By time: the wait and the batch are the call's, the stage the batch's; what a function of
    this process did for the call is in the hop.
    """
    trace = CallTrace(1, 2, 9, is_sampled=True)
    hop = trace.begin_hop()
    hop.add(Part("stage", "inner", 10.5, 10.6))
    trace.add(Part("stage", "model", 10.25, 10.375))
    trace.add(Part("queue", "model", 10.0, 10.25))
    trace.add(Part("batch", "model", 10.25, 10.375, 4))
    trace.add(Part("hop", "other", 10.4, 10.7, hop=hop))
    root, *rest = spans_of(TracedCall(RECORD, trace, 10.0), 1000.0)
    ids = {span.name: span.span_id for span in rest}
    assert (root.name, root.span_id, root.parent_id, root.is_error) == ("POST f", 2, 9, True)
    assert (root.began_ns, root.ended_ns) == (1010 * 10**9, 1011 * 10**9)
    assert root.attributes["error.type"] == "function_failed"
    assert {span.name: (span.parent_id, span.kind) for span in rest} == {
        "wake f": (2, "internal"),
        "queue model": (2, "internal"),
        "batch model": (2, "internal"),
        "stage model": (ids["batch model"], "internal"),
        "hop other": (2, "client"),
        "stage inner": (hop.span_id, "internal"),
    }
    assert ids["hop other"] == hop.span_id
    assert len({root.span_id, *ids.values()}) == 7
    batch = next(span for span in rest if span.name == "batch model")
    assert (batch.attributes["wakeful.batch.rows"], batch.began_ns) == (4, 1010_250_000_000)


@dataclass
class Collector:
    """A receiver of OTLP: the spans that came, and of which resource."""

    url: str
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    arrived: threading.Event = field(default_factory=threading.Event)

    def named(self, name: str) -> Span:
        """The only one of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


@pytest.fixture
def collector() -> Iterator[Collector]:
    """On loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = each.resource.attributes
                found.resources.append({one.key: one.value.string_value for one in attributes})
                for scope in each.scope_spans:
                    found.spans.extend(scope.spans)
            self.send_response(found.status)
            self.end_headers()
            found.arrived.set()

        def log_message(self, *of: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def settings_of(collector: Collector, monkeypatch: pytest.MonkeyPatch, **more: str) -> Settings:
    """As the environment says, which the exporter reads itself."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **more}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return Settings.read(environ)


def length(text: str) -> int:
    """Before the call of another function."""
    return len(text)


async def slow(n: int) -> int:
    """A coroutine."""
    await asyncio.sleep(0)
    return n


def functions(root: Path) -> Sequence[FunctionSpec]:
    """One that calls the other, which has a model."""
    onnx_models.double(root / "double.onnx")
    inner = {"onnx": "double.onnx"}
    outer = {
        "graph": [
            {"stage": "n", "python": f"{__name__}:length"},
            {"stage": "m", "python": f"{__name__}:slow"},
        ]
    }
    return [
        FunctionSpec.from_args("double", "/v2/models/double", inner),
        FunctionSpec.from_args("outer", "/v2/models/outer", outer),
    ]


def test_a_call_is_a_trace_at_the_collector(tmp_path, collector, monkeypatch):
    """Its parent is the client's span; what it waited for and ran is in it; the log of access has
    its trace. A call that the client does not record, is not.
    """
    settings = settings_of(collector, monkeypatch, OTEL_SERVICE_NAME="company")

    async def work(served: Served) -> None:
        exports = Exports(served.library.counters, settings, "replica-1")
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "mine"}
        row = {"x": [1.0, 2.0, 3.0]}
        target = "/v2/models/double"
        assert (await served.client.post(target, json=row, headers=headers)).status_code == 200
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
        assert (await served.client.post(target, json=row, headers=headers)).status_code == 200
        assert (await served.client.post("/v2/models/outer", json={"text": "a"})).is_success
        assert (await served.client.post("/v2/models/outer", json={})).status_code == 400
        await asyncio.to_thread(exports.close)
        assert not served.library.counters.lost

    run(serving(tmp_path, *functions(tmp_path)), work)
    root = collector.named("POST double")
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, SPAN)
    assert root.kind == Span.SPAN_KIND_SERVER
    attributes = {one.key: one.value for one in root.attributes}
    assert attributes["wakeful.request_id"].string_value == "mine"
    assert attributes["http.response.status_code"].int_value == 200
    wake, batch = collector.named("wake double"), collector.named("batch model")
    assert wake.parent_span_id == collector.named("queue model").parent_span_id == root.span_id
    stage = collector.named("stage model")
    assert (batch.parent_span_id, stage.parent_span_id) == (root.span_id, batch.span_id)
    for span in (wake, batch, stage):
        assert root.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano
    assert {span.name for span in collector.spans if "n" in span.name.split()} >= {"stage n"}
    assert collector.named("stage m").parent_span_id
    statuses = sorted(
        one.value.int_value
        for span in collector.spans
        if span.name == "POST outer"
        for one in span.attributes
        if one.key == "http.response.status_code"
    )
    assert statuses == [200, 400]
    assert {one["service.name"] for one in collector.resources} == {"company"}
    assert {one["service.instance.id"] for one in collector.resources} == {"replica-1"}


def test_a_call_of_another_function_is_a_hop(tmp_path, collector, monkeypatch):
    """In one process: the other function's batch is in the hop."""
    onnx_models.double(tmp_path / "double.onnx")
    (tmp_path / "serve_config.yaml").write_text(
        "applications:\n"
        "  - {name: double, import_path: 'deployments:function', args: {onnx: double.onnx}}\n"
        "  - name: outer\n"
        "    import_path: deployments:function\n"
        "    args: {graph: [{stage: twice, function: double}]}\n"
    )
    here = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    specs = resolve(read(tmp_path / "serve_config.yaml"), here).functions
    settings = settings_of(collector, monkeypatch)

    async def work(served: Served) -> None:
        exports = Exports(served.library.counters, settings, "r")
        answer = await served.client.post("/v2/models/outer", json={"x": [1.0, 2.0, 3.0]})
        assert answer.status_code == 200, answer.text
        await asyncio.to_thread(exports.close)

    run(serving(tmp_path, *specs), work)
    hop, batch = collector.named("hop double"), collector.named("batch model")
    assert hop.parent_span_id == collector.named("POST outer").span_id
    assert (batch.parent_span_id, hop.kind) == (hop.span_id, Span.SPAN_KIND_CLIENT)
    assert {span.trace_id for span in collector.spans} == {hop.trace_id}
    assert {one["service.name"] for one in collector.resources} == {"wakeful"}


def test_a_collector_that_refuses_loses_calls_and_counts_them(collector, monkeypatch):
    """And no call waits for it."""
    collector.status = 400
    settings = settings_of(collector, monkeypatch)
    counters = ProcessCounters()
    exports = Exports(counters, settings, "r")
    assert exports._spans is not None
    exports._spans.put(TracedCall(RECORD, CallTrace(1, 2, 0, is_sampled=True), 0.0))
    exports.close()
    assert counters.lost == {"traces": 1}


def test_how_long_spans_are_gathered_is_opentelemetrys_variable(collector, monkeypatch):
    """The collector has them though nothing is closed."""
    settings = settings_of(collector, monkeypatch, OTEL_BSP_SCHEDULE_DELAY="1")
    exports = Exports(ProcessCounters(), settings, "r")
    assert exports._spans is not None
    exports._spans.put(TracedCall(RECORD, CallTrace(1, 2, 0, is_sampled=True), 0.0))
    assert collector.arrived.wait(60)
    exports.close()


def test_a_missing_package_is_said(collector, monkeypatch):
    """With the line that installs it."""
    settings = settings_of(collector, monkeypatch)
    monkeypatch.delitem(sys.modules, "runtime.system.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, f"{SPAN_EXPORTER}.trace_exporter", None)
    with pytest.raises(LoadError, match=r"pip install 'wakeful\[otel\]'"):
        Exports(ProcessCounters(), settings, "r")


def test_without_the_variables_nothing_is_attached():
    """No thread, and nothing a call would ask."""
    counters = ProcessCounters()
    Exports(counters, Settings.read({}), "r").close()
    assert counters.of("f").begin_trace is None
    assert counters.of("f").on_answered is None
