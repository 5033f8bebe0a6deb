"""`wakeful profile` and `wakeful plan` on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from deployments.cli import main
from deployments.scaling.planning.profiles import read_profile, write_profile
from runtime.declaration import config_file
from runtime.graph.resolve import resolve
from runtime.settings import Settings
from tests import onnx_models
from tests.deployments.scaling.planning.made_profiles import profile_of
from tests.problems import expect_values

FILE = """\
applications:
  - name: busy
    route_prefix: /v2/models/busy
    import_path: deployments:function
    args: {onnx: m.onnx, autoscaling: {max_replicas: 3}, example: {x: [1.0, 2.0, 3.0]}}
  - name: rare
    route_prefix: /v2/models/rare
    import_path: deployments:function
    args: {onnx: m.onnx, slo: {latency_p95_ms: 50}}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command next to a file of two functions and a profile of them."""
    file = tmp_path / "serve_config.yaml"
    file.write_text(FILE)
    onnx_models.double(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    config = resolve(config_file.read(file), Settings.read(file=file))
    write_profile(profile_of(*config.functions), tmp_path / "profile.json")
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def test_a_plan_is_a_table_a_plot_and_a_verdict(run):
    """Rates of two functions, and prices."""
    result = run(
        "plan", "--rps", "busy=20", "--rps", "rare=0.1", "--for", "60", "--price", "cpu=0.04"
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["function", "busy", "rare"]
    words = ("month", "busy replicas", "rare p95", "busy warm", "p95 between", "machines: 1")
    for word in (*words, "a month", "it holds"):
        assert word in result.stdout
    assert not result.stderr


def test_a_program_reads_the_same(run):
    """As JSON, with the moments of the plot."""
    result = run("plan", "--rps", "rare=5", "--for", "30", "--p95-ms", "1", "--json")
    data = json.loads(result.stdout)
    (rare,) = data["functions"]
    assert (data["holds"], rare["holds"], rare["promised"]) == (False, False, {"p95": 0.001})
    assert (data["outcome"], rare["outcome"], data["runs"]) == ("FAIL", "FAIL", 5)
    assert rare["ranges"]["p95"]["low"] <= rare["p95_s"] <= rare["ranges"]["p95"]["high"]
    assert len(rare["moments"]) == 60
    assert (data["used"], data["doubts"]) == (None, [])


def test_what_no_call_has_is_null_for_a_program(run, tmp_path):
    """JSON has no infinity; none of the calls is answered before its deadline."""
    limits = "limits: {request_timeout_s: 0.001}"
    short = FILE.replace("{latency_p95_ms: 50}", f"{{latency_p95_ms: 50}}, {limits}")
    (tmp_path / "serve_config.yaml").write_text(short)
    data = json.loads(run("plan", "--rps", "rare=5", "--for", "10", "--json").stdout)
    json.dumps(data, allow_nan=False)
    (rare,) = data["functions"]
    assert (rare["p95_s"], rare["expired"], data["outcome"]) == (None, rare["calls"], "FAIL")
    (tmp_path / "calls.csv").write_text("at_s,function\n0,rare\n")
    data = json.loads(run("scale", "replay", "calls.csv", "--json").stdout)
    json.dumps(data, allow_nan=False)
    assert [one["expired"] for one in data["functions"]] == [0, 1]


@pytest.mark.slow
def test_a_plan_is_written_as_a_page(run, tmp_path):
    """Beside what is printed; where it cannot be, that is said."""
    asked = ("plan", "--rps", "rare=5", "--for", "30")
    result = run(*asked, "--report", "new/plan.html")
    assert result.exit_code == 0, result.output
    assert "new/plan.html" in result.stderr
    assert "<title>PASS" in (tmp_path / "new" / "plan.html").read_text()
    (tmp_path / "taken").touch()
    result = run(*asked, "--report", "taken/plan.html")
    assert result.exit_code == 1
    expect_values(result.stderr, "taken/plan.html", "cannot be written")


CALL = {
    "method": "POST",
    "path": "/v2/models/busy",
    "headers": {"content-type": "application/json"},
    "body": {"x": [1, 2, 3]},
    "status": 200,
    "latency_ms": 3.0,
}


def capture(path, *lines, function="busy"):
    """A file of these lines after its head."""
    head = {"wakeful_capture": 1, "function": function, "version": "v", "began": 1e9}
    texts = [line if isinstance(line, str) else json.dumps(line) for line in (head, *lines)]
    path.write_text("\n".join([*texts, ""]))


def test_a_recorded_traffic_is_planned_for(run, tmp_path):
    """A capture of one function."""
    capture(tmp_path / "calls.jsonl", *({**CALL, "at": 1e9 + number} for number in range(30)))
    result = run("plan", "--trace", "calls.jsonl", "--json")
    assert result.exit_code == 0, result.output
    (busy,) = json.loads(result.stdout)["functions"]
    assert (busy["function"], busy["calls"], busy["wakes"]) == ("busy", 30, 1)


def test_a_share_of_a_traffic_is_planned_as_all_of_it(run, tmp_path):
    """And it is said; calls that were refused for what they are count for nothing."""
    lines = [{**CALL, "at": 1e9 + number, "rate": 0.1} for number in range(30)]
    capture(tmp_path / "calls.jsonl", *lines, {**CALL, "at": 1e9, "status": 400})
    result = run("plan", "--trace", "calls.jsonl", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["functions"][0]["calls"] == 300
    expect_values(data["traffic"], "300 calls", "10 %", "1 left out")


def test_a_damaged_capture_is_refused_by_its_lines(run, tmp_path):
    """What is left of it is used only where that is asked for."""
    capture(tmp_path / "calls.jsonl", {**CALL, "at": 1e9}, {**CALL, "at": "now"}, "{")
    result = run("plan", "--trace", "calls.jsonl")
    assert result.exit_code == 2
    places = [line.split(": ")[0] for line in result.stderr.splitlines()]
    assert places == ["calls.jsonl:3", "calls.jsonl:4"]
    rest = run("plan", "--trace", "calls.jsonl", "--skip-bad", "--json")
    assert json.loads(rest.stdout)["functions"][0]["calls"] == 1
    assert "2 damaged" in json.loads(rest.stdout)["traffic"]


def test_a_capture_of_an_unknown_function_is_refused(run, tmp_path):
    """With the nearest that there is."""
    capture(tmp_path / "calls.jsonl", {**CALL, "at": 1e9}, function="bussy")
    result = run("plan", "--trace", "calls.jsonl")
    assert result.exit_code == 1
    expect_values(result.stderr, "'bussy'", "'busy'")


def test_a_shape_is_as_of_a_load_test(run):
    """A day, of which all counts; it begins asleep."""
    result = run("plan", "--rps", "rare=5", "--shape", "day:noise=0", "--for", "100", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    rates = [moment["rate"] for moment in data["functions"][0]["moments"]]
    assert "day" in data["traffic"]
    assert data["functions"][0]["wakes"] == 1
    assert sum(rates[20:40]) > 3 * sum(rates[:10] + rates[-10:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rps", "200"], ["NAME=200", "busy, rare"]),
        (["--rps", "busy=0"], ["--rps", "'busy=0'"]),
        (["--rps", "busy=nan"], ["'busy=nan'"]),
        ([], ["`--rps`", "`--trace`"]),
        (["--rps", "busy=1", "--trace", "x.csv"], ["either"]),
        (["--rps", "busy=1", "--price", "disk=1"], ["--price", "'disk'"]),
        (["--rps", "busy=1", "--p95-ms", "nan"], ["finite"]),
        (["--rps", "busy=1", "--p95-ms", "0"], ["0"]),
        (["--rps", "busy=1", "--for", "inf"], ["inf"]),
        (["--rps", "busy=1", "--machine", "cores=1.5"], ["--machine", "'cores=1.5'"]),
        (["--rps", "busy=1", "--machine", "disks=1"], ["'disks=1'"]),
        (["--rps", "busy=1", "--machine", "gpus=-1"], ["'gpus=-1'"]),
        (["--rps", "busy=1", "--machine", "gpus=1e9"], ["'gpus=1e9'"]),
        (["--rps", "busy=1", "--machine", "memory=nan"], ["'memory=nan'"]),
        (["--rps", "busy=1", "--price", "gpu=-1"], ["--price", "'gpu=-1'"]),
        (["--rps", "busy=1", "--price", "cpu=1e300"], ["'cpu=1e300'"]),
        (["--rps", "busy=1e-9"], ["--for"]),
        (["--rps", "busy=1e9"], ["--for"]),
        (["--rps", "busy=6000", "--shape", "day"], ["--for"]),
        (["--rps", "busy=1", "--shape", "dya"], ["'dya'", "day"]),
        (["--rps", "busy=1", "--shape", "day:depht=1"], ["depht"]),
        (["--rps", "busy=1", "--shape", "trace"], ["`--trace FILE`"]),
        (["--rps", "busy=0.000001", "--shape", "day"], ["--for"]),
        (["--rps", "busy=1", "--profile", "none.json"], ["none.json", "`wakeful profile`"]),
        (["--trace", "none.csv"], ["none.csv", "cannot be read"]),
        (["--trace", "none.csv", "--for", "60"], ["--for", "`--rps`"]),
        (["--trace", "none.csv", "--shape", "day"], ["--shape", "`--rps`"]),
        (["--trace", "none.csv", "--skip-bad"], ["--skip-bad", ".jsonl"]),
        (["--rps", "busy=1", "--skip-bad"], ["--skip-bad"]),
    ],
)
def test_a_wrong_command_line_is_refused(run, options, words):
    """With what was given and what is wanted; the exit status is that of a wrong one."""
    result = run("plan", *options)
    assert result.exit_code == 2, result.output
    expect_values(result.stderr, *words)


def test_an_unknown_function_is_named(run):
    """As of every command."""
    for options in (["plan", "--rps", "bussy=3"], ["profile", "--function", "bussy"]):
        result = run(*options)
        assert result.exit_code == 1
        expect_values(result.stderr, "'bussy'", "'busy'")


def test_a_profile_of_another_machine_is_doubted(run, tmp_path):
    """On standard error, before the numbers."""
    profile = read_profile(tmp_path / "profile.json")
    machine = profile.machine.model_copy(update={"cores": 99})
    write_profile(profile.model_copy(update={"machine": machine}), tmp_path / "profile.json")
    result = run("plan", "--rps", "rare=1", "--for", "30")
    assert result.exit_code == 0
    expect_values(result.stderr, "another machine", "99 cores")


@pytest.mark.parametrize("out", ["serve_config.yaml", "m.onnx", "."])
def test_no_other_file_becomes_a_profile(run, tmp_path, out):
    """It is refused before anything is measured, and stays as it was."""
    before = (tmp_path / "serve_config.yaml").read_text()
    result = run("profile", "--out", out)
    assert result.exit_code == 2, result.output
    expect_values(result.stderr, "--out", out)
    assert (tmp_path / "serve_config.yaml").read_text() == before


@pytest.mark.full
@pytest.mark.slow
def test_a_profile_is_measured_and_written(run, tmp_path):
    """Of one function; the other's, which was there, stays."""
    result = run("profile", "--function", "busy", "--seconds", "1")
    assert result.exit_code == 0, result.output
    assert "written: profile.json" in result.stdout
    written = read_profile(tmp_path / "profile.json")
    assert set(written.functions) == {"busy", "rare"}
    assert written.functions["busy"].batches[0].runs > 1
    result = run("plan", "--rps", "busy=20", "--for", "30")
    assert result.exit_code == 0
    assert not result.stderr


def test_scale_takes_a_profile_too(run, tmp_path):
    """Its calls then share batches, and wake in the time that was measured."""
    (tmp_path / "trace.csv").write_text("at_s,function\n" + "0.0,busy\n" * 64)
    waits = [
        json.loads(run("scale", "replay", "trace.csv", "--json", *options).stdout)["functions"][0]
        for options in ([], ["--profile", "profile.json"])
    ]
    assert [one["batch_rows"] for one in waits] == [1.0, 32.0]
    assert waits[1]["wait_max_s"] < waits[0]["wait_max_s"]
