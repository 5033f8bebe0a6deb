"""The header of a trace, and the decision whether a call is recorded."""

from __future__ import annotations

import pickle

import pytest

from runtime.errors import DeclarationError
from runtime.settings import Settings
from runtime.system.telemetry.trace import (
    MAX_PARTS,
    CallTrace,
    Parent,
    Part,
    make_sampler,
    read_traceparent,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "parent"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(int(TRACE, 16), int(SPAN, 16), True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(int(TRACE, 16), int(SPAN, 16), False)),
        (f"00-{TRACE}-{SPAN}-03", Parent(int(TRACE, 16), int(SPAN, 16), True)),
        (f"cc-{TRACE}-{SPAN}-01-more", Parent(int(TRACE, 16), int(SPAN, 16), True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        ("", None),
        ("00", None),
    ],
)
def test_a_header_names_a_parent_or_none(header: str, parent: Parent | None):
    """By W3C Trace Context: a version of the future may have more behind, version 00 not."""
    assert read_traceparent(header.encode()) == parent


SAMPLED, NOT = Parent(1, 2, True), Parent(1, 2, False)
LOW, HIGH = 1 << 64, (1 << 64) - 1
"""The low half of the id decides: 0 and the highest."""


@pytest.mark.parametrize(
    ("name", "argument", "parent", "trace_id", "is_sampled"),
    [
        ("always_on", "", NOT, HIGH, True),
        ("always_off", "", SAMPLED, LOW, False),
        ("traceidratio", "0.5", SAMPLED, HIGH, False),
        ("traceidratio", "0.5", NOT, LOW, True),
        ("traceidratio", "1", None, HIGH, True),
        ("traceidratio", "0", None, LOW, False),
        ("traceidratio", "", None, HIGH, True),
        ("parentbased_always_on", "", None, HIGH, True),
        ("parentbased_always_on", "", NOT, HIGH, False),
        ("parentbased_always_off", "", None, LOW, False),
        ("parentbased_always_off", "", SAMPLED, HIGH, True),
        ("parentbased_traceidratio", "0.01", None, LOW, True),
        ("parentbased_traceidratio", "0.01", None, HIGH, False),
        ("parentbased_traceidratio", "0.01", SAMPLED, HIGH, True),
        ("parentbased_traceidratio", "0.01", NOT, LOW, False),
    ],
)
def test_the_samplers_of_opentelemetry(name, argument, parent, trace_id, is_sampled):
    """And they can be sent to another process."""
    sampler = pickle.loads(pickle.dumps(make_sampler(name, argument)))
    assert sampler(parent, trace_id) is is_sampled


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, False),
        ({"OTEL_SDK_DISABLED": "true", **ENDPOINT}, False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", **ENDPOINT}, True),
    ],
)
def test_traces_are_on_where_the_variables_ask_for_them(environ, is_on):
    """Off by default."""
    assert (Settings.read(environ).trace_sampler is not None) is is_on


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ENDPOINT},
        {"OTEL_TRACES_SAMPLER": "sometimes", **ENDPOINT},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2", **ENDPOINT},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x", **ENDPOINT},
        {"OTEL_BSP_SCHEDULE_DELAY": "5s"},
        {"OTEL_BSP_SCHEDULE_DELAY": "0"},
    ],
)
def test_what_there_is_not_is_refused(environ):
    """At the start, with the variable."""
    with pytest.raises(DeclarationError) as caught:
        Settings.read(environ)
    (problem,) = caught.value.problems
    assert (problem.key, "OTEL_" in problem.message or "sometimes" in problem.message) == (
        "OTEL_*",
        True,
    )


def test_a_call_goes_on_with_the_trace_of_its_header():
    """Its hop has a span of its own, whose parent the call is; the header says so."""
    fields = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}
    trace = CallTrace.begin(fields, make_sampler("parentbased_always_on", ""))
    assert (trace.trace_id, trace.parent_id) == (int(TRACE, 16), int(SPAN, 16))
    hop = trace.begin_hop()
    assert hop.parent_id == trace.span_id
    assert read_traceparent(hop.traceparent) == Parent(trace.trace_id, hop.span_id, True)


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_process_without_a_span_hands_on_what_came(flags: str):
    """The header is the same one; without one there is nothing to hand on."""
    header = f"00-{TRACE}-{SPAN}-{flags}".encode()
    trace = CallTrace.hand_on({b"traceparent": header})
    assert trace is not None
    assert trace.traceparent == header
    assert CallTrace.hand_on({}) is None


def test_a_call_that_is_not_recorded_hands_the_trace_on_and_keeps_nothing():
    """So that the whole trace is recorded, or none of it."""
    trace = CallTrace.begin({}, make_sampler("always_off", ""))
    trace.add_until_now("stage", "s", 0.1)
    assert (trace.parent_id, trace.parts) == (0, [])
    parent = read_traceparent(trace.begin_hop().traceparent)
    assert parent is not None
    assert (parent.trace_id, parent.is_sampled) == (trace.trace_id, False)


@pytest.mark.parametrize("name", ["traceidratio", "parentbased_traceidratio"])
def test_what_an_unrecorded_call_calls_is_not_recorded_either(name: str):
    """Also by a sampler that asks for no parent: it decides by the trace's id alone."""
    sampler = make_sampler(name, "0.999")
    traces = [CallTrace.begin({}, sampler) for _ in range(20_000)]
    (unrecorded,) = {trace for trace in traces if not trace.is_sampled}
    hop = CallTrace.begin({b"traceparent": unrecorded.begin_hop().traceparent}, sampler)
    assert not hop.is_sampled


def test_what_a_call_keeps_is_bounded():
    """A thousand rows may be a thousand batches."""
    trace = CallTrace(1, 2, 0, is_sampled=True)
    for _ in range(MAX_PARTS + 3):
        trace.add(Part("stage", "s", 0.0, 1.0))
    assert (len(trace.parts), trace.dropped) == (MAX_PARTS, 3)
