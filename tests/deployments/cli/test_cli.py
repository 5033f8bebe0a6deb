"""The command, as far as it needs no Ray."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from deployments.cli import main
from deployments.cli.operations.up import _after_interrupt, _choose_port, _report_waiting
from deployments.cluster.cluster import Cluster
from deployments.local.runs import RunRecord
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import ClusterState, DeployedApp, StateDir
from deployments.rollout.rollout import RolloutOutcome
from tests import onnx_models
from tests.problems import expect_values

FILE = """\
http_options: {port: 8000}
applications:
  - name: f
    route_prefix: /v2/models/f
    import_path: deployments:function
    args:
      graph: [{stage: greet, python: "greeting_of_a_test:greet"}]
      batching: {max_batch_size: 8}
"""

IN_VAIN = "      batching: {max_batch_size: 8}\n"
"""Of which `check` warns: the stage takes one row at a time."""

STAGE = """\
def greet(name: str, times: int = 1) -> dict[str, str]:
    return {"greeting": name * times}
"""


BESIDE = """\
applications:
  - name: list
    args: {graph: [{stage: list, python: "lists_of_a_test:List", with: {words: words.txt}}]}
  - name: double
    args: {onnx: double.onnx}
"""

LISTS = """\
from pathlib import Path

class List:
    def __init__(self, words: Path) -> None:
        self.words = words.read_text().split()

    def __call__(self) -> list[str]:
        return self.words
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a file and the module of its stage, that a command works in; its state folder
    is empty.
    """
    (tmp_path / "serve_config.yaml").write_text(FILE)
    (tmp_path / "greeting_of_a_test.py").write_text(STAGE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        yield tmp_path
    sys.modules.pop("greeting_of_a_test", None)


@pytest.fixture
def run(project):
    """Runs a command; the result has exit_code, stdout, stderr."""
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def test_help_imports_nothing_heavy():
    """It would take seconds."""
    heavy = ("ray", "onnxruntime", "onnx", "pydantic", "numpy", "rich", "starlette")
    found = f"[name for name in {heavy} if name in sys.modules]"
    code = (
        "import sys; from deployments.cli import main; main(['-h'], standalone_mode=False); "
        f"print({found})"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.endswith("[]\n")


def test_check_says_what_is_right(run, project):
    """What each function takes and gives, and how many there are."""
    (project / "serve_config.yaml").write_text(FILE.replace(IN_VAIN, ""))
    result = run("check")
    face = "f takes name: str, times: int = 1; gives greet: dict[str, str]\n"
    untried = (
        "no answer is tried before the first call: f. Declare an 'example:' to have it tried.\n"
    )
    assert (result.exit_code, result.stdout) == (
        0,
        face + untried + "serve_config.yaml: 1 function, nothing wrong.\n",
    )
    assert json.loads(run("check", "--json").stdout) == {
        "problems": [],
        "warnings": [],
        "functions": {
            "f": {
                "takes": "name: str, times: int = 1",
                "headers": [],
                "gives": "greet: dict[str, str]",
                "streams": False,
            }
        },
        "untried": ["f"],
    }
    (project / "serve_config.yaml").write_text(
        FILE.replace(IN_VAIN, "      example: {name: Ada}\n")
    )
    assert run("check").stdout == face + "serve_config.yaml: 1 function, nothing wrong.\n"


def test_a_file_says_the_same_from_every_folder(run, project, monkeypatch):
    """Its models, the files of its stages and their modules are found beside it; WAKEFUL_ROOT goes
    before that, and a message names where was looked.
    """
    onnx_models.double(project / "double.onnx", ("rows", 2))
    (project / "words.txt").touch()
    (project / "lists_of_a_test.py").write_text(LISTS)
    (project / "serve_config.yaml").write_text(BESIDE)
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for name in (str(project / "serve_config.yaml"), "../serve_config.yaml"):
        result = run("check", name)
        assert result.exit_code == 0, result.stdout
    monkeypatch.setenv("WAKEFUL_ROOT", str(elsewhere))
    problems = json.loads(run("check", "../serve_config.yaml", "--json").stdout)["problems"]
    assert [problem["key"] for problem in problems] == [
        "applications[0].args.graph[0].with",
        "applications[1].args.onnx",
    ]
    for problem in problems:
        assert f"Relative paths start at {elsewhere}" in problem["message"]
    sys.modules.pop("lists_of_a_test")


def test_check_warns_and_the_status_stays_zero(run, project):
    """About a value that no stage takes, next to a field that was not meant."""
    (project / "greeting_of_a_test.py").write_text(
        STAGE + "\ndef last(great: dict[str, str]) -> str:\n    return great['greeting']\n"
    )
    text = FILE.replace(IN_VAIN, "").replace(
        'greet"}]',
        'greet", outputs: {greet: salute}}, {stage: last, python: "greeting_of_a_test:last"}]',
    )
    (project / "serve_config.yaml").write_text(text)
    result = run("check")
    assert result.exit_code == 0
    first, *_, last = result.stdout.splitlines()
    where = "warning: serve_config.yaml:7: applications[0].args.graph[0].python: "
    expect_values(first, where, "stage 'greet'", "'salute'", "'last'", "'great'", "'salute'?")
    expect_values(last, "serve_config.yaml: ", "1 function", "1 warning")
    (warning,) = json.loads(run("check", "--json").stdout)["warnings"]
    assert warning["line"] == 7


def test_check_warns_of_batching_that_has_no_effect(run):
    """With the line, and what would be batched."""
    first = run("check").stdout.splitlines()[0]
    where = "warning: serve_config.yaml:8: applications[0].args.batching: "
    expect_values(first, where, "batched", "rows axis", "`Rows`")


@pytest.mark.parametrize("command", [("check",), ("up", "--detach"), ("run",), ("explain",)])
@pytest.mark.parametrize(
    ("wrong", "key", "values"),
    [
        ("max_batch_siz: 8", "max_batch_siz", ["max_batch_size?"]),
        ("max_batch_size: x", "max_batch_size", ["'x'", "integer"]),
    ],
)
def test_a_wrong_declaration_is_refused_by_every_command(run, project, command, wrong, key, values):
    """With its line and exit status 2, before anything starts."""
    (project / "serve_config.yaml").write_text(FILE.replace("max_batch_size: 8", wrong))
    result = run(*command)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    where = f"serve_config.yaml:8: applications[0].args.batching.{key}: "
    assert line.startswith(where)
    expect_values(line.removeprefix(where), *values)
    assert StateDir().load() is None


@pytest.mark.parametrize("command", [("check",), ("up", "--detach"), ("run",), ("explain",)])
def test_a_stage_that_is_not_there_is_refused_by_every_command(run, project, command):
    """The file is read without importing; this comes after."""
    (project / "serve_config.yaml").write_text(FILE.replace(":greet", ":great"))
    result = run(*command)
    assert result.exit_code == 2
    where = "serve_config.yaml:7: applications[0].args.graph[0].python: "
    assert result.output.startswith(where)
    expect_values(result.output, "'greeting_of_a_test'", "'great'")


def test_check_lists_problems_as_json(run, project):
    """For editors."""
    (project / "serve_config.yaml").write_text(
        FILE.replace("max_batch_size: 8", "max_batch_siz: 8")
    )
    (problem,) = json.loads(run("check", "--json").stdout)["problems"]
    assert (problem["line"], problem["key"]) == (8, "applications[0].args.batching.max_batch_siz")


@pytest.mark.parametrize("command", ["up", "run"])
def test_a_port_in_use_is_refused_with_its_holder(run, command):
    """Nothing starts, and nothing is up."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        result = run(command, "--port", str(port))
    assert result.exit_code == 1
    expect_values(result.stderr, f"port {port}", "127.0.0.1", f"process {os.getpid()}")
    assert StateDir().load() is None


def test_what_up_cannot_apply_is_refused(run, project):
    """Not ignored."""
    (project / "serve_config.yaml").write_text(FILE + "target_capacity: 50\n")
    result = run("up", "--detach")
    assert result.exit_code == 2
    assert "serve_config.yaml:9: target_capacity:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ((), {}, {"value": 8000, "origin": "serve_config.yaml:1"}),
        ((), {"WAKEFUL_PORT": "8001"}, {"value": 8001, "origin": "environment WAKEFUL_PORT"}),
        (("--port", "8002"), {"WAKEFUL_PORT": "8001"}, {"value": 8002, "origin": "flag --port"}),
    ],
)
def test_explain_says_where_a_setting_comes_from(run, monkeypatch, arguments, variables, expected):
    """Flag, environment, file, default: the first that says something."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = json.loads(run("explain", "--json", *arguments).stdout)["settings"]
    assert {"key": "port", **expected} in settings
    assert {"key": "host", "value": "127.0.0.1", "origin": "default"} in settings


def test_explain_shows_graph_interface_and_settings(run):
    """Of each function."""
    function = json.loads(run("explain", "--json").stdout)["functions"]["f"]
    assert function["graph"] == [
        "request  name, times",
        "└ greet  python greeting_of_a_test:greet  name, times → greet",
        "answer   greet",
    ]
    assert function["takes"] == {"name": "scalar BYTES []", "times": "scalar INT64 [], optional"}
    assert {
        "key": "batching.max_batch_size",
        "value": 8,
        "origin": "serve_config.yaml:8",
    } in function["settings"]
    assert {"key": "tier", "value": "auto", "origin": "default"} in function["settings"]


def test_explain_takes_a_function_of_the_file_in_the_folder(run):
    """As `status` and `logs` do; a file that is not there is still one."""
    alone, whole = run("explain", "f", "--json"), run("explain", "serve_config.yaml", "f", "--json")
    assert alone.exit_code == 0
    assert alone.stdout == whole.stdout
    missing = run("explain", "g.yaml")
    assert (missing.exit_code, missing.stderr.partition(":")[0]) == (2, "g.yaml")


def test_explain_takes_a_split_stage_whatever_lies_in_the_folder(run, project):
    """Its name has a dot as a file's has; and a folder with a function's name is no file."""
    text = FILE.replace('greet"}]', 'greet", deployment: {num_cpus: 1}}]')
    (project / "serve_config.yaml").write_text(text)
    (project / "f").mkdir()
    for name in ("f.greet", "f"):
        result = run("explain", name, "--json")
        assert result.exit_code == 0, result.output
        assert list(json.loads(result.stdout)["functions"]) == [name]


def test_explain_asks_where_it_would_be_served(run, project):
    """An address of IPv6 is written in brackets, and nothing answers at the one that means all."""
    text = FILE.replace('greet"}]', 'greet", deployment: {num_cpus: 1}}]')
    (project / "serve_config.yaml").write_text(text)
    for host, near in (("::1", "[::1]"), ("0.0.0.0", "127.0.0.1")):
        result = run("explain", "f", "--host", host, "--port", "1")
        assert result.exit_code == 0, result.exception
        assert f"nothing answers at http://{near}:1\n" in result.stdout


def test_explain_shows_what_the_environment_sets(run, monkeypatch):
    """Every setting of it, though there are too many to show their defaults."""
    monkeypatch.setenv("WAKEFUL_DRAIN_S", "7")
    settings = json.loads(run("explain", "--json").stdout)["settings"]
    assert {"key": "drain_s", "value": 7.0, "origin": "environment WAKEFUL_DRAIN_S"} in settings


def test_a_misspelt_command_is_refused_with_the_nearest(run):
    """As every name is."""
    result = run("exlpain")
    assert result.exit_code == 2
    expect_values(result.stderr, "'exlpain'", "'explain'?")


def test_explain_of_an_unknown_function_offers_the_nearest(run):
    """As every command that takes a name."""
    result = run("explain", "serve_config.yaml", "ff")
    assert result.exit_code == 1
    expect_values(result.stderr, "wakeful: ", "'ff'", "'f'?")


NOTHING_UP = ["nothing is up", "`wakeful run`", "`wakeful up`"]


@pytest.mark.parametrize(
    ("arguments", "status", "values"),
    [
        (("down",), 0, ["nothing is up"]),
        (("status",), 0, ["nothing is up"]),
        (("status", "--json"), 0, ["[]"]),
        (("status", "f"), 1, NOTHING_UP),
        (("down", "f"), 1, NOTHING_UP),
        (
            ("call", "f", "{}"),
            1,
            [*NOTHING_UP, "another machine", "`--url`"],
        ),
        (
            ("logs", "f"),
            1,
            ["nothing is up", "'f'", "last session"],
        ),
    ],
)
def test_a_command_reports_that_nothing_is_up(run, arguments, status, values):
    """Asking is no failure; asking for a function is, and its error is all that is printed."""
    result = run(*arguments)
    assert (result.exit_code, result.stderr.startswith("wakeful: ")) == (status, status == 1)
    assert bool(result.stdout) is (status == 0)
    expect_values(result.stdout or result.stderr, *values)


class Echo(BaseHTTPRequestHandler):
    """Answers with path, body and headers of its caller's own; 400 when the body says so."""

    def do_POST(self):
        """One call."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(400 if b"wrong" in body else 200)
        self.end_headers()
        payload = {"path": self.path, "body": body.decode()}
        if headers := {
            name: value for name, value in self.headers.items() if name.startswith("x-")
        }:
            payload["headers"] = headers
        self.wfile.write(json.dumps(payload).encode())

    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture
def echo():
    """The address of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_runs_are_shown_where_the_cluster_does_not_answer(run, monkeypatch):
    """And what is wrong with the cluster; without a run that is all there is."""
    joined = ClusterState("node", "a:1", "127.0.0.1", 1, "f.yaml", "r", "m")
    here = RunRecord(os.getpid(), 0.0, "http://127.0.0.1:2", "run.yaml")
    shown = {"name": "of-a-run", "state": "ready", "tier": "run", "replicas": 1, "reason": ""}
    monkeypatch.setattr(Cluster, "current", lambda _: joined)
    monkeypatch.setattr("deployments.cluster.cluster.fetch_index", lambda *_: None)
    monkeypatch.setattr("deployments.local.runs.run_functions", lambda *_: [{**shown, "url": "/u"}])
    for runs, status, out in ([here], 0, "of-a-run"), ([], 1, ""):
        monkeypatch.setattr("deployments.local.runs.live_runs", lambda _, runs=runs: runs)
        result = run("status")
        assert result.exit_code == status
        assert out in result.stdout
        expect_values(result.stderr, "no catalogue answers", joined.url)


@pytest.mark.parametrize(("body", "status"), [('{"a": 1}', 0), ('{"wrong": 1}', 1)])
def test_call_prints_the_answer_or_the_error(run, echo, body, status):
    """The error on standard error, with exit status 1."""
    result = run("call", "f", body, "--url", f"http://127.0.0.1:{echo}/")
    assert result.exit_code == status
    assert json.loads(result.stderr if status else result.stdout) == {
        "path": "/v2/models/f",
        "body": body,
    }


def _save_up(port: int) -> None:
    """Have it that a cluster is up which serves `f`."""
    home = StateDir()
    home.prepare()
    home.save(
        ClusterState(
            "joined",
            "a:1",
            "0.0.0.0",
            port,
            "",
            "/",
            "/",
            deployed=(DeployedApp("f", "/else/where", "function", ""),),
        )
    )


def test_call_finds_what_is_up(run, echo):
    """By what `up` has written down."""
    _save_up(echo)
    assert json.loads(run("call", "f", "[]").stdout)["path"] == "/else/where"
    assert run("call", "g", "[]").exit_code == 1


def test_call_sends_headers(run, echo):
    """As often as they are given; what is none is refused."""
    url = f"http://127.0.0.1:{echo}"
    result = run(
        "call",
        "f",
        "{}",
        "--url",
        url,
        "--header",
        "x-sequence-id: a:b",
        "-H",
        "x-sequence-start:1",
    )
    assert json.loads(result.stdout)["headers"] == {"x-sequence-id": "a:b", "x-sequence-start": "1"}
    for wrong in ("x sequence", "x-name: Zoë"):
        assert run("call", "f", "{}", "--url", url, "--header", wrong).exit_code == 2


@pytest.mark.parametrize("arguments", [("call", "f", "{}"), ("wake", "f")])
def test_an_address_that_is_none_is_named(run, arguments):
    """Without a traceback."""
    result = run(*arguments, "--url", "http://[::1")
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "http://[::1" in result.stderr


def test_call_refuses_what_is_no_json(run, project):
    """A mistake on the command line, before anything is sent, and no traceback."""
    (project / "latin.json").write_bytes('{"name": "ö"}'.encode("latin-1"))
    (project / "deep.json").write_text("[" * 100_000)
    for body in ("{a: 1}", '{"name": "\udcff"}', "@none.json", "@latin.json", "@deep.json"):
        result = run("call", "f", body, "--url", "http://127.0.0.1:9")
        assert (result.exit_code, type(result.exception)) == (2, SystemExit), body
        assert "Invalid value for JSON" in result.stderr


@pytest.mark.parametrize("command", [("call", "f", "{}"), ("wake", "f")])
def test_a_server_of_this_machine_is_not_asked_through_a_proxy(run, monkeypatch, echo, command):
    """A company's `http_proxy` looks for 127.0.0.1 on its own machine."""
    _save_up(echo)
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setattr("deployments.cli.call.CALL_TIMEOUT_S", 2)
        monkeypatch.setattr("deployments.cli.operations.wake_and_sleep.TIMEOUT_S", 2)
        assert run(*command).exit_code == 0


def test_call_reads_a_file(run, project, echo):
    """As curl does."""
    (project / "request.json").write_text('{"name": "ö"}', encoding="utf-8")
    result = run("call", "f", "@request.json", "--url", f"http://127.0.0.1:{echo}")
    assert json.loads(result.stdout)["body"] == '{"name": "ö"}'


@pytest.mark.parametrize("command", [("call", "f", "{}"), ("wake", "f")])
def test_an_address_that_does_not_answer_is_named(run, command):
    """One that cannot be an address is a mistake on the command line."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    result = run(*command, "--url", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert f"http://127.0.0.1:{port}/v2" in result.stderr
    assert "`wakeful status`" in result.stderr
    bare = run(*command, "--url", f"127.0.0.1:{port}")
    assert bare.exit_code == 2
    assert f"'http://127.0.0.1:{port}'" in bare.stderr


def test_env_can_be_evaluated_by_a_shell(run):
    """Every line exports one variable."""
    lines = run("env", "--shell").stdout.splitlines()
    words = [shlex.split(line) for line in lines]
    assert all(word[0] == "export" and len(word) == 2 for word in words)
    assert "RAY_SERVE_ENABLE_HA_PROXY=1" in [word[1] for word in words]
    assert json.loads(run("env", "--json").stdout) == dict(word[1].split("=", 1) for word in words)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("env", "--json", "--shell"), "--shell and --json are two forms"),
        (("up", "--address", "10.0.0.1"), "'10.0.0.1' is not HOST:PORT"),
        (("join", "10.0.0.1"), "'10.0.0.1' is not HOST:PORT"),
        (("up", "--address", "a:1", "--num-gpus", "0"), "--num-gpus is about a Ray that `up`"),
        (("up", "--address", "a:1", "--node-ip-address", "b"), "--node-ip-address is about a Ray"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(run, arguments, said):
    """One of them was ignored; an address was refused by Ray, once all functions were probed."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_an_interrupted_command_has_a_status_of_its_own(run, monkeypatch):
    """Not that of a failure, whose reason would be on the last line."""

    def interrupt(argument):
        raise KeyboardInterrupt

    monkeypatch.setattr("deployments.cli.call._body", interrupt)
    result = run("call", "f", "{}")
    assert (result.exit_code, result.stderr) == (130, "wakeful: interrupted.\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_that_ends_up_takes_down_what_it_started(run, monkeypatch, number):
    """`kill` and a closed terminal as Ctrl-C does; afterwards they mean what they did."""
    ended: list[str] = []

    def harmless(*_: object) -> None:
        """What the signal means outside of `up`."""

    def up(self: object, request: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            ended.append("taken down")

    monkeypatch.setattr("deployments.cluster.cluster.Cluster.up", up)
    monkeypatch.setattr("deployments.cli.operations.up._load_all_once", lambda *_: {})
    is_ctrl_c = number == signal.SIGINT
    before = signal.signal(number, signal.default_int_handler if is_ctrl_c else harmless)
    try:
        result = run("up")
        assert signal.getsignal(number) == (signal.default_int_handler if is_ctrl_c else harmless)
    finally:
        signal.signal(number, before)
    assert (result.exit_code, ended) == (130, ["taken down"])
    assert "what was started has been taken down" in result.stderr


@pytest.mark.parametrize("flags", [(), ("--detach",)])
def test_an_update_that_waits_for_resources_has_failed(run, project, monkeypatch, flags):
    """With --detach or without: an update returns at once in any case."""
    up = ClusterState("own", "a:1", "127.0.0.1", 1, "", "/", "/")
    outcome = RolloutOutcome(up, fresh=False, states=(AppState("f", "waking", 0, "no CPU"),))
    monkeypatch.setattr("deployments.cluster.cluster.Cluster.up", lambda self, request: outcome)
    monkeypatch.setattr("deployments.cli.operations.up._load_all_once", lambda *_: {})
    assert run("up", *flags).exit_code == 1


def test_an_unknown_variable_is_refused_by_name(run, monkeypatch):
    """In the environment as in the file."""
    monkeypatch.setenv("WAKEFUL_PROT", "8000")
    result = run("check")
    assert result.exit_code == 2
    expect_values(result.output, "WAKEFUL_PROT: ", "WAKEFUL_PORT?")


def test_models_are_listed(run, root):
    """Those of the lock, whether they are there or not."""
    listed = json.loads(run("models", "list", "--json", "--lock", str(root / "models.lock")).stdout)
    assert listed
    assert Path("models.lock").exists() is False


def test_models_are_those_of_the_file(run, project, root, monkeypatch):
    """Its folder has the lock and the models, as for `models pull`, wherever one calls it."""
    (project / "models.lock").write_text((root / "models.lock").read_text())
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    here = run("models", "list", "--json")
    monkeypatch.chdir(elsewhere)
    there = run("models", "list", "--json", "--file", str(project / "serve_config.yaml"))
    assert (there.exit_code, there.stdout) == (0, here.stdout)


@pytest.mark.parametrize(
    ("named", "in_environment", "is_any", "expected"),
    [
        (None, None, None, (None, False)),
        (0, None, None, (0, True)),
        (8001, None, None, (8001, False)),
        (None, None, True, (8123, True)),
        (None, 8002, True, (None, False)),
        (8001, None, True, (8001, False)),
        (0, None, True, (8123, True)),
        (0, 8002, False, (8123, False)),
        (None, None, False, (None, False)),
    ],
)
def test_a_cluster_that_was_started_on_any_port_is_left_where_it_is(
    named, in_environment, is_any, expected
):
    """By an `up` that names none; ``is_any``: how the one that is up was started, if one is."""
    current = ClusterState("own", "a:1", "127.0.0.1", 8123, "", "/", "/")
    before = None if is_any is None else replace(current, has_any_port=is_any)
    assert _choose_port(named, in_environment, before) == expected


@pytest.fixture
def home():
    """A state folder, whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        home = StateDir(Path(short) / "s")
        home.prepare()
        yield home


@pytest.mark.parametrize("name", ["host", "catalogue"])
def test_what_functions_need_is_not_taken_down_alone(home, name):
    """What to do instead is said."""
    roles = (
        DeployedApp("host", "/v2/models", "host", ""),
        DeployedApp("catalogue", "/", "catalogue", ""),
    )
    home.save(ClusterState("joined", "a:1", "127.0.0.1", 1, "", "/", "/", deployed=roles))
    with pytest.raises(RayError) as refused:
        Cluster(home).delete(name)
    expect_values(refused.value.message, name, "`wakeful down`", "`wakeful up`")


@pytest.mark.parametrize(("former", "said"), [({"f"}, "version before"), (set(), "14 of its")])
def test_what_serves_while_replicas_wait_for_resources_is_said(capsys, former, said):
    """A new function has no version before."""
    up = ClusterState("own", "a:1", "127.0.0.1", 1, "", "/", "/")
    states = (AppState("f", "waking", 14, "no CPU"),)
    _report_waiting(RolloutOutcome(up, fresh=False, states=states, former=frozenset(former)))
    expect_values(capsys.readouterr().err, said, "`wakeful down f`")


@pytest.mark.parametrize(
    ("fingerprint", "is_up", "said"),
    [("", False, "taken down"), ("1", True, "nothing was changed"), ("", True, "`wakeful status`")],
)
def test_an_interrupted_up_says_what_runs(home, fingerprint, is_up, said):
    """What was started is down, nothing has changed yet, or either version may answer."""
    deployed = (DeployedApp("f", "/f", "function", fingerprint),)
    up = ClusterState("own", "a:1", "127.0.0.1", 1, "", "/", "/", deployed=deployed)
    home.save(up)
    assert said in _after_interrupt(home, up if is_up else None)
