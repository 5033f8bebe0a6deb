"""What is asked for is a plan, or is refused before the load begins: nothing of it is passed over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.loadtest.calls.load_call import AnswerForm
from deployments.loadtest.calls.rows import GivenCall, LineFaults
from deployments.loadtest.calls.served_functions import ServedFunction
from deployments.loadtest.load_options import EACH, LoadOptions
from deployments.loadtest.preparation import (
    choose_functions,
    make_plan,
    make_shape,
    with_recordings,
)
from deployments.loadtest.refusal import LoadTestRefused
from deployments.scaling.simulation import Arrival
from runtime.declaration import config_file
from tests.problems import expect_values

SOURCE = LineFaults(Path("calls.jsonl"), should_skip=False)


def served(name: str, *, has_sequences: bool = False) -> ServedFunction:
    """A function as a server shows it."""
    return ServedFunction(
        name=name,
        path=f"/v2/models/{name}",
        row={},
        required=(),
        takes_rows=True,
        example={"x": 1},
        raw_types=(),
        tensors=None,
        headers={},
        is_streamed=False,
        has_sequences=has_sequences,
        form=AnswerForm({}, {}, {}),
    )


RECORDED = (Arrival(0.0, "f", index=None), Arrival(3.0, "f", index=None))


@pytest.mark.parametrize(
    ("options", "given", "where"),
    [
        (LoadOptions(functions=("f",), rates={"g": 5.0}), (), "--rps"),
        (
            LoadOptions(functions=("f",), calls=(("g", Path("g.jsonl")),)),
            (GivenCall("g", {}, {}, None, SOURCE, 1),),
            "--calls",
        ),
        (LoadOptions(functions=("f",), promises={"success": {"g": 0.9}}), (), "--success"),
    ],
)
def test_what_is_said_of_a_function_that_is_not_loaded(options, given, where):
    """Is refused, and not passed over."""
    with pytest.raises(LoadTestRefused) as refused:
        choose_functions(options, given, ["f", "g"])
    assert refused.value.where == where
    expect_values(refused.value.message, "g", "--function g")


def test_lines_of_other_functions_are_left_out_of_a_file():
    """Which has calls of any; a function is chosen of them."""
    options = LoadOptions(functions=("f",), calls=((EACH, Path("calls.jsonl")),))
    given = [GivenCall(name, {}, {}, None, SOURCE, 1) for name in "fg"]
    assert choose_functions(options, given, ["f", "g"]) == ["f"]


def write_capture(folder: Path, **more: object) -> Path:
    """A capture of one call."""
    head = {"wakeful_capture": 1, "function": "f", "version": "v", "began": 1000.0}
    call = {
        "at": 1000.5,
        "method": "POST",
        "path": "/v2/models/f",
        "headers": {"content-type": "application/json"},
        "body": {"x": 1},
        "status": 200,
        "latency_ms": 1.0,
    }
    path = folder / "f.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (head, {**call, **more})))
    return path


def test_captures_and_a_trace(tmp_path):
    """A CSV file says when, a capture what; a capture as a trace says both."""
    capture, trace = write_capture(tmp_path), tmp_path / "trace.csv"
    trace.write_text("at_s,function\n0.5,f\n2.0,f\n")
    calls = ((EACH, capture),)
    of_both = with_recordings(LoadOptions(calls=calls, trace=(trace,)), ["f"])
    assert [arrival.at for arrival in of_both.recorded] == [0.5, 2.0]
    assert len(of_both.recorded_calls["f"]) == 1
    alone = with_recordings(LoadOptions(trace=(capture,)), ["f"])
    assert [arrival.index for arrival in alone.recorded] == [0]


@pytest.mark.parametrize(
    ("more", "as_trace", "as_calls", "where", "values"),
    [
        ({}, True, True, "--calls", ["one of the two"]),
        ({"status": 400}, True, False, "--trace", ["1 of 1 calls"]),
        ({"status": 400}, False, True, "--calls", ["1 of 1 calls"]),
    ],
)
def test_captures_that_say_nothing(tmp_path, more, as_trace, as_calls, where, values):
    """Or that say it twice: another load than was asked for would be sent."""
    path = write_capture(tmp_path, **more)
    options = LoadOptions(
        trace=(path,) if as_trace else (), calls=((EACH, path),) if as_calls else ()
    )
    with pytest.raises(LoadTestRefused) as refused:
        with_recordings(options, ["f"])
    assert refused.value.where == where
    expect_values(refused.value.message, *values)


def test_a_part_of_a_load_is_said_to_be_one(tmp_path):
    """At its times; in turn, at a rate that is given, it is a load like any other."""
    path = write_capture(tmp_path, rate=0.1)
    traced = replace(with_recordings(LoadOptions(trace=(path,)), ["f"]), shape="trace")
    (caution,) = plan(traced).cautions
    expect_values(caution, "10 %", "f")
    in_turn = with_recordings(LoadOptions(calls=((EACH, path),)), ["f"])
    assert not plan(in_turn).cautions


@pytest.mark.parametrize(
    ("more", "given", "where"),
    [
        ({"wire": "v2"}, (), "--wire"),
        ({}, (GivenCall("f", {"x": 2}, {}, None, SOURCE, 1),), "--calls"),
    ],
)
def test_recorded_calls_are_sent_as_they_came(tmp_path, more, given, where):
    """In no other form, and not beside others."""
    options = with_recordings(LoadOptions(trace=(write_capture(tmp_path),)), ["f"])
    options = replace(options, shape="trace", **more)
    with pytest.raises(LoadTestRefused) as refused:
        make_plan("http://x", {"f": served("f")}, None, options, given, Path())
    assert refused.value.where == where


@pytest.mark.parametrize(
    ("options", "seconds", "warm_up_s"),
    [
        (LoadOptions(), 65.0, 5.0),
        (LoadOptions(shape="ramp"), 60.0, 0.0),
        (LoadOptions(shape="spike"), 90.0, 0.0),
        (LoadOptions(shape="spike:quiet=5,width=3", warm_up_s=1.0), 9.0, 1.0),
        (LoadOptions(seconds=10.0), 15.0, 5.0),
        (LoadOptions(shape="trace", recorded=RECORDED, warm_up_s=1.0), 3.001, 1.0),
        (LoadOptions(shape="trace", recorded=RECORDED, seconds=1.0, warm_up_s=1.0), 2.0, 1.0),
    ],
)
def test_how_long_it_takes(options, seconds, warm_up_s):
    """As long as the shape needs where it is not said, and the warm-up."""
    shape, found_s = make_shape(options, ["f"])
    assert (shape.seconds, found_s) == (pytest.approx(seconds), warm_up_s)


def test_a_trace_that_is_all_warm_up():
    """Would be judged by no call."""
    with pytest.raises(LoadTestRefused) as refused:
        make_shape(LoadOptions(shape="trace", recorded=RECORDED, warm_up_s=60.0), ["f"])
    assert refused.value.where == "--warm-up"


def plan(options: LoadOptions, *, has_sequences: bool = False, declared=None):
    """The plan of a load test of one function."""
    functions = {"f": served("f", has_sequences=has_sequences)}
    return make_plan("http://x", functions, declared, options, (), Path())


@pytest.mark.parametrize(
    ("count", "has_sequences", "rate", "values"),
    [
        (3, False, 10.0, ["sequences"]),
        (10_000, True, 100.0, ["65,000,000", "4,000,000"]),
    ],
)
def test_sequences_that_cannot_be(count, has_sequences, rate, values):
    """Of a function without them, or of more calls than a run holds."""
    options = LoadOptions(sequence_calls=count, rates={EACH: rate})
    with pytest.raises(LoadTestRefused) as refused:
        plan(options, has_sequences=has_sequences)
    assert refused.value.where == "--sequence-calls"
    expect_values(refused.value.message, *values)


FUNCTION = """
  - name: {0}
    route_prefix: /v2/models/{0}
    import_path: deployments:function
    args:
      graph: [{{stage: s, python: "a:b"}}]
      autoscaling: {{{1}}}
"""


def declare(folder: Path, *functions: str) -> config_file.ConfigFile:
    """A file of functions, read."""
    file = folder / "serve_config.yaml"
    file.write_text("applications:" + "".join(functions))
    return config_file.read(file)


@pytest.mark.parametrize(
    ("autoscaling", "words"),
    [
        ("", ""),
        ("downscale_to_zero_delay_s: 300", "`--shape spike:quiet=310`"),
        ("min_replicas: 1", "never sleeps"),
    ],
)
def test_a_spike_that_finds_its_function_awake(tmp_path, autoscaling, words):
    """Is told: it measures no wake."""
    declared = declare(tmp_path, FUNCTION.format("f", autoscaling))
    notes = plan(LoadOptions(shape="spike"), declared=declared).notes
    assert words in notes[0] if words else not notes
    assert not plan(LoadOptions(), declared=declared).notes


def test_what_is_sent_has_a_digest_and_what_is_asked_for_goes_with_it():
    """So that a run tells what it was of."""
    options = LoadOptions(headers={"authorization": "Bearer 1"}, prices={"cpu": 0.04})
    made = plan(options)
    assert made.headers == {"authorization": "Bearer 1"}
    assert made.calls["f"][0].headers["authorization"] == "Bearer 1"
    assert made.prices == {"cpu": 0.04}
    assert made.sent == plan(LoadOptions()).sent
    assert len(made.sent["f"]) == 16


def test_a_declared_function_that_is_not_served(tmp_path):
    """Is told: its promises are not judged."""
    declared = declare(tmp_path, FUNCTION.format("f", ""), FUNCTION.format("g", ""))
    (note,) = plan(LoadOptions(), declared=declared).notes
    expect_values(note, "not served", "g")
