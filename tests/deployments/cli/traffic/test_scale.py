"""`wakeful scale`: arrivals through the policies, on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from deployments.cli import main
from tests.problems import expect_values

FILE = """\
applications:
  - name: busy
    route_prefix: /v2/models/busy
    import_path: deployments:function
    args: {onnx: m.onnx}
  - name: rare
    route_prefix: /v2/models/rare
    import_path: deployments:function
    args: {onnx: m.onnx}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command next to a file of two functions; the model they name need not exist."""
    (tmp_path / "serve_config.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.fixture
def made(run, tmp_path):
    """A trace of two minutes."""
    result = run("scale", "trace", "busy=45", "rare=0.02", "--for", "120")
    assert result.exit_code == 0
    (tmp_path / "trace.csv").write_text(result.stdout)
    return tmp_path / "trace.csv"


def test_a_made_up_trace_is_replayed(run, made):
    """A line for each function, the totals, and with --why the decisions in the order of time."""
    result = run("scale", "replay", str(made), "--why")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["function", "busy", "rare"]
    assert "replica-seconds" in result.stdout
    times = [float(line.split()[0]) for line in lines if " s  busy" in line or " s  rare" in line]
    assert times == sorted(times)
    assert "busy  host → own:" in result.stdout


def test_a_program_reads_the_same(run, made):
    """As JSON, with the assumptions changed."""
    quick = json.loads(run("scale", "replay", str(made), "--json").stdout)
    slow = json.loads(run("scale", "replay", str(made), "--json", "--wake-s", "3").stdout)
    waits = [
        {entry["function"]: entry["wait_max_s"] for entry in report["functions"]}["rare"]
        for report in (quick, slow)
    ]
    assert waits == pytest.approx([0.1, 3.0], abs=0.05)
    assert quick["totals"]["most_bytes"] > 0
    assert {"at_s", "why"} == set(quick["functions"][0]["decisions"][0])


def test_a_wrong_trace_is_refused_as_a_declaration_is(run, tmp_path):
    """With its line, and the exit status of a wrong declaration."""
    (tmp_path / "trace.csv").write_text("at_s,function\n0,bussy\n")
    result = run("scale", "replay", "trace.csv")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("trace.csv:2: function: ")
    expect_values(line, "'bussy'", "'busy'?")


@pytest.mark.parametrize("rate", ["busy", "=3", "a,b=3", "busy=often", "busy=-1", "busy=inf"])
def test_a_rate_is_a_name_and_a_number(run, rate):
    """Anything else is refused with an example."""
    result = run("scale", "trace", rate)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "embed=5" in result.stderr


def test_a_name_has_one_rate(run):
    """The last one would hide the others."""
    result = run("scale", "trace", "busy=1", "busy=2")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'busy' has two rates. Give it one." in result.stderr


@pytest.mark.parametrize("arguments", [("busy=1e9",), ("busy=1", "--for", "1e12")])
def test_a_trace_has_an_end(run, arguments):
    """It would be made up until the memory is full."""
    result = run("scale", "trace", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "5,000,000 at most are made up. Lower a rate, or `--for`." in result.stderr


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_options_are_finite_numbers(run, tmp_path, number):
    """Others ended in a traceback, in a trace without end, or in a table of nonsense."""
    (tmp_path / "trace.csv").write_text("at_s,function\n0,busy\n")
    options = ("--cpus", "--service-s", "--wake-s", "--start-s")
    results = [run("scale", "replay", "trace.csv", option, number) for option in options]
    results.append(run("scale", "trace", "busy=0", "--for", number))
    for result in results:
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"{number} is given, a finite number is wanted." in result.stderr
