"""What a newcomer types at the shell, where nothing is up: each answer says what to type instead."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from deployments.cli import main
from tests.second_day.projects import HEAD, ONE, Project, working_in

PROJECT = Project(ONE, HEAD + "def f(x: int) -> int:\n    return x\n")


@pytest.fixture
def shell(monkeypatch) -> Iterator[CliRunner]:
    """A folder with a project, and a state folder in which nothing is up."""
    with working_in(PROJECT), tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(sys, "argv", ["wakeful"])
        yield CliRunner()


def test_a_port_that_is_taken_is_named_with_its_process(shell: CliRunner) -> None:
    """34 and 34b: and with what to type; so is an address that this machine does not have."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = shell.invoke(main, ["run", "--port", port])
        again = shell.invoke(main, ["run", "--port", port, "--reload"])
    assert result.exit_code == 1
    assert f"is taken by process {os.getpid()}" in result.output
    assert "`--port`" in result.output
    assert (again.exit_code, again.output) == (1, result.output)
    result = shell.invoke(main, ["run", "--port", "0", "--host", "10.1.2.3"])
    assert result.exit_code == 1
    assert "10.1.2.3" in result.output


@pytest.mark.parametrize(
    ("typed", "status", "words"),
    [
        (["check", "nope.yaml"], 2, ["nope.yaml", "cannot be read"]),
        (["check", "iris.py"], 2, ["iris.py", "serve_config.yaml", '"iris:FUNCTION"']),
        (["run", "iris.py"], 2, ["iris.py", "serve_config.yaml"]),
        (["check", "labels.txt"], 2, ["labels.txt"]),
        (["run", "nope.yaml"], 2, ["nope.yaml", "cannot be read"]),
        (["check", "."], 2, ["did you mean 'serve_config.yaml'?"]),
        (["run", "."], 2, ["did you mean 'serve_config.yaml'?"]),
        (["call", "iris", "{}"], 1, ["nothing is up here", "`wakeful run`"]),
        (["call", "iris", "{a: 1}"], 2, ["that is no JSON", '{"text"']),
        (["call", "iris", "labels.txt"], 2, ["there is a file of that name: write @labels.txt"]),
        (["call", "iris", "@nofile"], 2, ["'nofile' cannot be read"]),
        (["status"], 0, ["nothing is up."]),
        (["logs", "iris"], 1, ["nothing is up"]),
        (["sleep", "iris"], 1, ["nothing is up here"]),
        (["wake", "iris"], 1, ["nothing is up here"]),
        (["down"], 0, ["nothing is up."]),
        (["pin"], 2, ["FUNCTION"]),
        (["explain", "irsi"], 1, ["did you mean 'iris'?"]),
        (["explain", "iris"], 0, ["iris", "takes x"]),
        (["models", "pull"], 1, ["models.lock"]),
        (["serve"], 2, ["`wakeful run`", "`wakeful up`"]),
        (["start"], 2, ["`wakeful run`", "`wakeful up`"]),
        (["deploy"], 2, ["`wakeful up`"]),
        (["build"], 2, ["nothing is built"]),
        (["list"], 2, ["`wakeful status`"]),
        (["stop"], 2, ["`wakeful down`"]),
        (["version"], 2, ["`wakeful --version`"]),
        (["chekc"], 2, ["did you mean 'check'?"]),
        (["frobnicate"], 2, ["there is no command 'frobnicate'."]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_command_says_what_to_type(
    shell: CliRunner, typed: list[str], status: int, words: list[str]
) -> None:
    """With its exit status, and without a traceback."""
    result = shell.invoke(main, typed)
    assert result.exit_code == status, result.output
    for word in words:
        assert word in result.output, result.output
    assert "Traceback" not in result.output
