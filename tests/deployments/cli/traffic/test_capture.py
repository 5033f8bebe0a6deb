"""`wakeful capture` at a server that runs, and what its file says."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner, Result

from deployments.cli import main
from deployments.cli.traffic.capture import describe_capture
from deployments.loadtest.calls.captures import read_capture
from tests import serving
from tests.deployments.projects import wait_until

FILE = """\
applications:
  - {name: greet, args: {graph: [{stage: s, python: "capture_of_a_test:greet"}], capture: {omit: [name]}}}
  - {name: caller, args: {graph: [{stage: s, function: greet}], capture: {rate: 1}}}
"""

STAGE = 'def greet(name: str) -> str:\n    return f"hello {name}"\n'


@pytest.mark.slow
def test_calls_are_recorded_for_a_time(tmp_path):
    """From one command to another; a restart goes on with the file."""
    (tmp_path / "serve_config.yaml").write_text(FILE)
    (tmp_path / "capture_of_a_test.py").write_text(STAGE)
    folder = tmp_path / "recorded"

    def count(name: str) -> int:
        path = folder / f"{name}.jsonl"
        # the first line is not of a call
        return max(0, len(path.read_text().splitlines()) - 1) if path.exists() else 0

    for run in range(2):
        with serving.run(
            tmp_path / "serve_config.yaml",
            root=tmp_path,
            log=tmp_path / "log",
            more={"WAKEFUL_CAPTURES": str(folder)},
        ) as url:

            def told(*words: str, url: str = url) -> Result:
                return CliRunner().invoke(main, ["capture", *words, "--url", url])

            def call(name: str, url: str = url) -> None:
                answer = httpx.post(f"{url}/v2/models/{name}", json={"name": "Ada"}, timeout=30)
                assert answer.status_code == 200

            call("greet")
            assert json.loads(told("greet", "--json").stdout)["rate"] == 0
            begun = told("greet", "--rate", "1", "--for", "600")
            assert "is recorded for 600 s more, or until its process ends" in begun.output, begun
            call("greet")
            call("caller")  # whose call of greet is none of a client's
            ended = told("greet", "--off")
            assert "No call of greet is recorded" in ended.output
            call("greet")
            assert told("other").exit_code == 1
            assert "did you mean 'greet'" in told("greets").stderr
            for words in (
                ["--off", "--rate", "1"],
                ["--for", "5"],
                ["--rate", "2"],
                ["--rate", "nan"],
                ["--rate", "1", "--for", "nan"],
            ):
                assert told("greet", *words).exit_code == 2
            wait_until(lambda wanted=run + 1: (count("greet"), count("caller")) == (wanted, wanted))
        assert (count("greet"), count("caller")) == (run + 1, run + 1)
    found = read_capture(folder / "greet.jsonl")
    assert [(one.body, one.omitted) for one in found.calls] == [(b"{}", ("name",))] * 2
    assert [one.body for one in read_capture(folder / "caller.jsonl").calls] == [
        b'{"name":"Ada"}'
    ] * 2
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"rate": 0.0, "until": None}, "No call of f is recorded; 3 so far: x.jsonl"),
        ({"rate": 1.0, "until": 65.0}, "Every call of f is recorded for 60 s more; 3 so far: x"),
        (
            {"rate": 1.0, "until": 65.0, "ends_with_process": True},
            "for 60 s more, or until its process ends or reloads; 3 so far: x",
        ),
        ({"rate": 0.005, "until": None}, "0.5 % of the calls of f are recorded; 3 so far: x"),
        ({"rate": 0.0, "until": None, "lost": 2}, "; 3 so far, 2 lost: x.jsonl"),
    ],
)
def test_what_is_recorded_is_said_in_words(status, expected):
    """With where, and what was lost."""
    whole = {"calls": 3, "lost": 0, "file": "x.jsonl", **status}
    assert expected in describe_capture("f", whole, 5.0)
