"""`wakeful loadtest`: its verdict is its exit status, a mistake is refused before any load begins,
and nothing of it is left.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from click.testing import CliRunner

from deployments.cli import main
from deployments.cli.traffic.loadtest import exit_status_of
from deployments.loadtest.results.comparison import Comparison, Difference
from deployments.loadtest.results.dependence import Estimate
from deployments.loadtest.results.verdict import Verdict
from tests.serving import free_port
from wakeful.testing import serve

FILE = """
applications:
  - name: hello
    route_prefix: /v2/models/hello
    import_path: deployments:function
    args:
      graph: [{stage: greet, python: "hello_stages:greet"}]
      example: {name: bo}
      slo: {latency_p50_ms: 60000, success: 0.9}
  - name: other
    route_prefix: /v2/models/other
    import_path: deployments:function
    args:
      graph: [{stage: greet, python: "hello_stages:greet"}]
  - name: odd
    route_prefix: /v2/models/odd
    import_path: deployments:function
    args:
      graph: [{stage: odd, python: "hello_stages:odd"}]
"""

STAGES = """
from typing import Annotated
from pydantic import AfterValidator

def greet(name: str) -> str:
    return f"hello {name}"

def refuse(value: str) -> str:
    raise ValueError("not that one.")

def odd(name: Annotated[str, AfterValidator(refuse)]) -> str:
    return name
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the file."""
    folder = tmp_path_factory.mktemp("load")
    (folder / "serve_config.yaml").write_text(FILE)
    (folder / "hello_stages.py").write_text(STAGES)
    return folder


@pytest.fixture
def loadtest(folder, monkeypatch):
    """Runs it there."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        return CliRunner().invoke(main, ["loadtest", *arguments])

    return run


@pytest.fixture(scope="module")
def url(folder):
    """The functions of the file, served."""
    with serve(folder / "serve_config.yaml") as app:
        yield app.url


def difference(direction):
    """Of two runs."""
    none = Estimate(0.0, 0.0, 0.0)
    return Difference("f", "p50", none, none, 0.0, direction)


@pytest.mark.parametrize(
    ("outcome", "differences", "other_load", "status"),
    [
        (None, [], "", 0),
        ("PASS", [], "", 0),
        ("PASS", [difference("better")], "", 0),
        ("PASS", [difference("worse")], "", 1),
        ("UNSURE", [], "", 2),
        ("UNSURE", [difference("worse")], "", 1),
        ("FAIL", [], "", 1),
        ("PASS", [], "other functions were called.", 2),
        ("FAIL", [], "other functions were called.", 1),
    ],
)
def test_the_exit_status_of_a_run_that_is_compared(outcome, differences, other_load, status):
    """A broken promise fails whatever it is compared with; so does what got worse."""
    verdict = Verdict(outcome, [], None, "")
    assert exit_status_of(verdict, Comparison(differences, other_load, [])) == status


SHORT = ("--function", "hello", "--rps", "60", "--for", "1.5", "--warm-up", "0.3")


@pytest.mark.slow
def test_a_file_is_served_loaded_and_judged(loadtest, folder):
    """PASS is 0; the run is written; no process is left."""
    result = loadtest(*SHORT, "--json", "--out", "out")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["verdict"]["outcome"] == "PASS"
    assert found["functions"]["hello"]["right"] > 40
    assert found["cpu_s"] > 0
    written = {path.name for path in (folder / "out").iterdir()}
    assert written == {"run.json", "calls.csv", "report.html"}
    assert f"report: {Path('out', 'report.html')}" in result.stderr
    assert "All 2 promises hold" in (folder / "out" / "report.html").read_text()
    left = [
        process
        for process in psutil.Process().children(recursive=True)
        if "deployments" in " ".join(process.cmdline())
    ]
    assert not left


@pytest.mark.full
def test_two_runs_are_compared(loadtest, url, folder):
    """What changed is told, and drawn in the report."""
    assert loadtest(*SHORT, "--url", url, "--out", "before").exit_code == 0
    again = loadtest(*SHORT, "--url", url, "--against", "before", "--out", "again")
    assert "against the run before: " in again.stdout
    assert "the run before" in (folder / "again" / "report.html").read_text()


@pytest.mark.slow
def test_rows_and_answers_of_a_file(loadtest, url, folder):
    """FAIL is 1: an answer that is not the one that is given is wrong, and the verdict says so."""
    (folder / "rows.jsonl").write_text('{"name": "a"}\n{"nmae": "b"}\n{"name": "b"}\n')
    (folder / "calls.jsonl").write_text(
        '{"function": "hello", "body": {"name": "a"}, "answer": "hello b"}\n'
    )
    short = ("--rps", "40", "--for", "1.5", "--warm-up", "0", "--url", url, "--p50-ms", "60000")
    result = loadtest("--calls", "hello=rows.jsonl", "--skip-bad", *short)
    assert result.exit_code == 0, result.output
    assert "1 line is left out: rows.jsonl:2: " in result.stdout
    result = loadtest("--calls", "calls.jsonl", "--success", "0.9", *short)
    assert result.exit_code == 1, result.output
    assert "not hello b as before" in result.stdout
    assert "FAIL: " in result.stdout


@pytest.mark.full
def test_recorded_calls_are_sent_at_their_times(loadtest, url, folder):
    """Twice as fast; an answer that differs from the recorded one fails."""
    head = {"wakeful_capture": 1, "function": "hello", "version": "v", "began": 1000.0}
    lines = [
        {
            "at": 1000.0 + number / 20,
            "id": "",
            "method": "POST",
            "path": "/v2/models/hello",
            "headers": {"content-type": "application/json"},
            "body": {"name": str(number)},
            "status": 200,
            "code": "",
            "latency_ms": 1.0,
        }
        for number in range(60)
    ]
    for line in lines:
        line["answer"] = httpx.post(f"{url}/v2/models/hello", json=line["body"]).json()
    lines[7]["answer"] = "another"
    capture = folder / "hello.jsonl"
    capture.write_text("".join(json.dumps(line) + "\n" for line in (head, *lines)))
    result = loadtest("--url", url, "--trace", str(capture), "--speed", "2", "--json")
    found = json.loads(result.stdout)
    assert found["functions"]["hello"]["calls"] == 60
    assert found["functions"]["hello"]["errors"] == {"wrong_answer": 1}
    assert 1.4 < found["seconds"] < 1.6
    result = loadtest("--url", url, "--calls", str(capture), "--rps", "40", "--for", "1.5")
    assert "wrong_answer" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--function", "helo"), ("--function: there is no function 'helo'", "'hello'")),
        (("--rps", "helo=5"), ("--rps: there is no function 'helo'", "'hello'")),
        (("--rps", "many"), ("'many' is given", "FUNCTION=NUMBER")),
        (("--rps", "nan"), ("'nan' is given",)),
        (("--success", "1.5"), ("'1.5' is given", "from 0 to 1")),
        (
            ("--function", "hello", "--p95-ms", "other=5"),
            ("--p95-ms: other is promised something",),
        ),
        (
            ("--p50-ms", "60", "--p95-ms", "50"),
            ("--p50-ms: latency_p50_ms 60 of hello is above latency_p95_ms 50",),
        ),
        (
            ("--p50-ms", "10", "--p95-ms", "60", "--p99-ms", "hello=50"),
            ("--p95-ms: latency_p95_ms 60 of hello is above latency_p99_ms 50",),
        ),
        (
            ("--p99-ms", "59999"),
            ("--p99-ms: latency_p50_ms 60000 of hello is above latency_p99_ms 59999", "`slo`"),
        ),
        (("unordered.yaml",), ("latency_p50_ms 60 is above latency_p95_ms 50",)),
        (("--shape", "stedy"), ("stedy", "steady")),
        (("--shape", "burst:factr=3"), ("factr", "factor")),
        (("--speed", "2"), ("--speed is about a trace",)),
        (("--trace", "none.csv"), ("none.csv",)),
        (("--calls", "hello=none.jsonl"), ("none.jsonl cannot be read",)),
        (("--calls", "bad.jsonl"), ("bad.jsonl:2: ", "--skip-bad")),
        (("--against", "none.json"), ("none.json",)),
        (("--url", "127.0.0.1:1"), ("has no scheme",)),
        (("--url", "http://me:canary@127.0.0.1:1"), ("--url", "password", "--header '", "Basic")),
        (("--out", "serve_config.yaml/x"), ("--out", "cannot be made")),
        (("none.yaml",), ("none.yaml",)),
        (("--nothing",), ("No such option",)),
        (("--find-capacity", "--for", "5"), ("finds nothing in 5 s", "60 s at least")),
        (("--find-capacity", "--shape", "ramp"), ("steady rates",)),
        (("--function", "hello", "--rps", "other=5"), ("--rps: other is given", "not loaded")),
        (("--trace", "none.csv", "--rps", "5"), ("--trace has its own rate",)),
        (("--timeout", "nan"), ("a finite number",)),
        (("--for", "inf"), ("a finite number",)),
        (("--price", "gpu=1"), ("what a GPU is used for",)),
        (("--price", "cpu=much"), ("--price: ", "cpu=PRICE")),
        (("--header", "x"), ("'x' is not NAME:VALUE",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_refused_before_anything_is_served(loadtest, folder, arguments, words):
    """With 64, what is wrong, and how to write it."""
    (folder / "bad.jsonl").write_text('{"function": "hello", "body": {}}\n{"function":\n')
    unordered = FILE.replace("latency_p50_ms: 60000", "latency_p50_ms: 60, latency_p95_ms: 50")
    (folder / "unordered.yaml").write_text(unordered)
    result = loadtest(*arguments)
    assert result.exit_code == 64, result.output
    for word in words:
        assert word in result.output
    assert "canary" not in result.output


def test_a_url_that_does_not_answer(loadtest):
    """Nothing listens there."""
    result = loadtest("--url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 64
    assert "--url: http://127.0.0.1" in result.output
    assert "does not answer" in result.output


@pytest.mark.slow
def test_a_fault_of_its_own_is_no_verdict(loadtest, url, monkeypatch):
    """An error that nothing expects ends with 70, not with the 1 of FAIL."""

    def fail(*_, **__):
        raise RuntimeError("it broke")

    monkeypatch.setattr("deployments.loadtest.generator.running.run_load", fail)
    result = loadtest("--url", url, *SHORT)
    assert result.exit_code == 70, result.output
    assert "it broke" in result.stderr


@pytest.mark.slow
def test_what_came_of_it_is_told_where_it_cannot_be_written(loadtest, url, monkeypatch):
    """As on a full disk."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deployments.loadtest.results.files.write_run", fail)
    result = loadtest("--url", url, *SHORT, "--out", "full")
    assert result.exit_code == 70, result.output
    assert result.stdout.splitlines()[1].startswith("hello ")
    assert "No space left on device" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--function", "odd"), ("odd has no `example`", "--calls odd=rows.jsonl")),
        (("--p99-ms", "50", "--for", "2", *SHORT[:2]), ("cannot show that", "--for ")),
        (("--wire", "stream", *SHORT[:2]), ("answers at once",)),
        (("--wire", "raw", *SHORT[:2]), ("no `accepts`",)),
        (("--find-capacity", "--function", "other"), ("nothing is promised",)),
        (("--price", "cpu=0.04", *SHORT[:2]), ("--price: ", "none that is known here")),
        (("--sequence-calls", "3", *SHORT[:2]), ("--sequence-calls: ", "has sequences")),
        (
            ("--calls", "hello=mixed.jsonl"),
            ("mixed.jsonl:2: no row of hello: ", "'nmae'", "mixed.jsonl:3: ", "--skip-bad"),
        ),
        (("--calls", "wrong.jsonl", "--skip-bad"), ("hello has no row that can be sent", ":1: ")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.slow
def test_what_the_server_says_cannot_be_loaded(loadtest, url, folder, arguments, words):
    """Is refused before the first call."""
    (folder / "mixed.jsonl").write_text('{"name": "a"}\n{"nmae": "a"}\n{"name": 5}\n')
    (folder / "wrong.jsonl").write_text('{"function": "hello", "body": {}}\n')
    result = loadtest("--url", url, *arguments)
    assert result.exit_code == 64, result.output
    for word in words:
        assert word in result.output


@pytest.mark.full
def test_a_rate_beyond_the_generator(loadtest, url):
    """Is tried for a second against a server that answers at once, and refused."""
    result = loadtest("--url", url, "--function", "hello", "--rps", "100000", "--for", "10")
    assert result.exit_code == 64, result.output
    assert "--processes" in result.output
