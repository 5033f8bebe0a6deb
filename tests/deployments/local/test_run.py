"""`wakeful run` as a shell sees it: where it serves, and which commands find it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployments.local.running import shell
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hello(tmp_path_factory):
    """A project."""
    with shell(tmp_path_factory.mktemp("hello")) as made:
        yield made


@pytest.fixture(scope="module")
def run(hello):
    """It serves."""
    with hello.serving() as running:
        assert running.call() == "hello bo"
        yield running


def test_status_shows_its_functions(hello, run):
    """As it shows those of `up`, and which process serves them."""
    (entry,) = json.loads(hello.run("status", "--json").stdout)
    assert (entry["name"], entry["state"], entry["tier"]) == ("hello", "ready", "run")
    assert entry["url"] == f"{run.url}/v2/models/hello"
    assert entry["run"]["pid"] == run.process.pid
    text = hello.run("status", "hello").stdout
    assert f"is process {run.process.pid}, at {run.url}." in text


def test_call_finds_a_function_by_its_name(hello, run):
    """Without a URL."""
    assert json.loads(hello.run("call", "hello", '{"name": "cy"}').stdout) == {
        "greeting": "hello cy"
    }
    result = hello.run("call", "helo", "{}")
    assert (result.returncode, result.stderr) == (
        1,
        "wakeful: there is no function 'helo', did you mean 'hello'?\n",
    )


def test_down_says_how_it_ends(hello, run):
    """It is not `down`'s to end."""
    result = hello.run("down")
    assert result.returncode == 0
    assert f"`kill {run.process.pid}`" in result.stdout


def test_a_function_is_put_to_sleep_by_its_name(hello, run):
    """And woken: `status` shows it."""
    assert hello.run("sleep", "hello").returncode == 0
    wait_until(
        lambda: json.loads(hello.run("status", "hello", "--json").stdout)["state"] == "asleep"
    )
    result = hello.run("wake", "hello")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(hello.run("status", "hello", "--json").stdout)["state"] == "ready"


def test_logs_show_what_a_stage_printed(hello, run):
    """With the time and the function, as of replicas; and as JSON."""
    lines = hello.run("logs", "hello").stdout.splitlines()
    assert any(line.endswith(" -- greeting bo") and " hello " in line for line in lines)
    records = [
        json.loads(line) for line in hello.run("logs", "hello", "--json").stdout.splitlines()
    ]
    assert "greeting bo" in [record["text"] for record in records]
    result = hello.run("logs", "helo", "--follow")
    assert (result.returncode, result.stderr) == (
        1,
        "wakeful: there is no function 'helo', did you mean 'hello'?\n",
    )


def test_several_runs_are_seen_at_once(hello, run, tmp_path):
    """Each with its functions; one that was killed is not."""
    with shell(tmp_path) as other:
        other.short = hello.short
        other.write("second")
        with other.serving() as second:
            assert second.call("second") == "hello bo"
            names = {entry["name"] for entry in json.loads(hello.run("status", "--json").stdout)}
            assert names == {"hello", "second"}
        names = {entry["name"] for entry in json.loads(hello.run("status", "--json").stdout)}
        assert names == {"hello"}


def test_a_record_of_a_killed_run_is_not_believed(hello, run):
    """Whatever process has its number now."""
    (folder,) = Path(hello.short).glob("wakeful-*/runs")
    record = json.loads((folder / f"{run.process.pid}.json").read_text())
    stale = {**record, "pid": os.getpid(), "started_at": record["started_at"] - 1000}
    (folder / f"{os.getpid()}.json").write_text(json.dumps(stale))
    assert len(json.loads(hello.run("status", "--json").stdout)) == 1


def test_the_printed_line_is_a_call(tmp_path):
    """The first line after the loads says where it serves, and the curl line works as it is."""
    with shell(tmp_path) as project:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "run", "--port", "0"],
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.PIPE,
            text=True,
            # under `nohup` it would be ignored, by a run as well
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        try:
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith("  curl "):
                    break
            answer = subprocess.run(
                lines[-1], shell=True, capture_output=True, text=True, timeout=60
            ).stdout
        finally:
            process.send_signal(signal.SIGHUP)  # as of a terminal that closes: it drains as well
            assert process.wait(60) == 0
            process.stdout.close()
    assert json.loads(answer) == {"greeting": "hello Ada"}
    (serving,) = [line for line in lines if line.startswith("serving on http://127.0.0.1:")]
    assert lines[lines.index(serving) + 1 :][:2] == ["", "hello"]
    wait_until(lambda: not json.loads(project.run("status", "--json").stdout))


STUCK = """\
import threading

class Stuck:
    def __init__(self) -> None:
        print("constructed", flush=True)
        threading.Event().wait()

    def __call__(self, name: str) -> dict[str, str]:
        return {}

greet = Stuck
"""


def test_a_stage_that_is_never_constructed_does_not_keep_the_process(tmp_path):
    """Ctrl-C ends it, though a thread is in the constructor for ever."""
    with shell(tmp_path) as project:
        project.write("hello", STUCK)
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "run", "--port", "0"],
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # a shell ignores it for what it starts in the background
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            assert any("constructed" in line for line in process.stdout)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
