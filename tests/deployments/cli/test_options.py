"""What commands have in common: addresses, how a server is asked, and which functions can be."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from deployments.cli import main
from deployments.cli import run as running
from deployments.cli.call import CALL_TIMEOUT_S
from deployments.cli.operations.wake_and_sleep import TIMEOUT_S
from deployments.cli.options import (
    check_address,
    check_url,
    key_file_of,
    locate,
    place_of,
    served_names,
    with_key,
)
from deployments.ingress.haproxy.rules import SECRET
from deployments.local.process_run import RunAccess
from deployments.ray_support.state_dir import ClusterState, DeployedApp, StateDir
from runtime.declaration.http_section import AuthSpec
from runtime.declaration.ray_schema import HttpOptions
from runtime.errors import DeclarationError, NotFound, Problem
from runtime.settings import Settings
from runtime.system.secrets import Secrets
from tests.problems import expect_values


@pytest.fixture
def up(monkeypatch) -> Iterator[StateDir]:
    """A function with a split stage is up, as far as the state folder says."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        home = StateDir()
        home.prepare()
        deployed = (
            DeployedApp("f", "/v2/models/f", "function", "1"),
            DeployedApp("f.part", "/v2/models/f.part", "function", "1", part_of="f"),
        )
        home.save(
            ClusterState("own", "a:1", "127.0.0.1", 8123, "f.yaml", "/", "/", deployed=deployed)
        )
        yield home


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("10.0.0.1:6379", True),
        ("head:1", True),
        ("[::1]:65535", True),
        ("10.0.0.1", False),
        ("10.0.0.1:", False),
        (":6379", False),
        ("10.0.0.1:637900", False),
        ("10.0.0.1:port", False),
    ],
)
def test_an_address_of_ray_has_a_host_and_a_port(value, is_one):
    """Ray says so only after it has been started."""
    context, parameter = click.Context(main), click.Argument(["address"])
    if is_one:
        assert check_address(context, parameter, value) == value
    else:
        with pytest.raises(click.BadParameter, match="is not HOST:PORT"):
            check_address(context, parameter, value)


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ((None, None), (None, None), ("file", 1)),
        ((None, None), ("env", 2), ("env", 2)),
        (("flag", 3), ("env", 2), ("flag", 3)),
        ((None, 0), ("env", 2), ("env", 0)),
        (("flag", None), (None, 2), ("flag", 2)),
    ],
)
def test_flags_go_before_the_environment_and_that_before_the_file(flags, environment, expected):
    """Port 0 is one that was asked for: a free one."""
    host, port = environment
    declared = HttpOptions(host="file", port=1)
    assert (
        running._address(flags, Settings(Path(), Path(), host=host, port=port), declared)
        == expected
    )


def test_a_split_stage_is_not_called_by_name(up):
    """Its function calls it. A command that shows logs knows it all the same."""
    assert locate("f") == ("http://127.0.0.1:8123", "/v2/models/f", {}, None)
    with pytest.raises(NotFound, match=r"f\.part"):
        locate("f.part")
    assert (served_names(), served_names(with_stages=True)) == (["f"], ["f", "f.part"])


@pytest.mark.parametrize(
    ("command", "timeout_s"), [(("call", "f", "{}"), CALL_TIMEOUT_S), (("wake", "f"), TIMEOUT_S)]
)
@pytest.mark.parametrize("url", [None, "http://10.0.0.9:1"])
def test_a_server_is_not_waited_for_for_ever(up, monkeypatch, command, timeout_s, url):
    """And one of this machine is asked directly, one elsewhere as the environment says."""
    asked: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def stream(method: str, target: str, **request: Any) -> Iterator[httpx.Response]:
        asked.append({"target": target, **request})
        yield httpx.Response(200, json={}, request=httpx.Request(method, target))

    monkeypatch.setattr(httpx, "stream", stream)
    arguments = [*command, "--url", url] if url else list(command)
    assert CliRunner().invoke(main, arguments).exit_code == 0
    (one,) = asked
    assert one["target"].startswith(url or "http://127.0.0.1:8123")
    assert (one["timeout"], one["trust_env"]) == (timeout_s, url is not None)


@pytest.mark.parametrize("status", [200, 400, 503])
def test_the_status_of_a_call_is_that_of_its_answer(up, monkeypatch, status):
    """A script sees that it failed, and the error is on standard error."""
    answer = httpx.Response(status, text="said", request=httpx.Request("POST", "http://x"))
    monkeypatch.setattr(httpx, "stream", lambda *_, **__: contextlib.nullcontext(answer))
    result = CliRunner().invoke(main, ["call", "f", "{}"])
    assert result.exit_code == (0 if status == 200 else 1)
    assert (result.stdout, result.stderr)[status != 200] == "said\n"


def test_a_run_logs_no_secret(up, capsys, monkeypatch):
    """Neither in a line nor in a traceback."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    secrets = Secrets({"TOKEN": "hunter2"})
    assert secrets.find("TOKEN") == "hunter2"
    settings = Settings(Path(), Path(), secrets=secrets)
    with running._recorded("http://x", Path("f.yaml"), settings, RunAccess(), "WARNING"):
        try:
            raise ValueError("hunter2 is wrong")
        except ValueError:
            logging.getLogger("of.a.test").exception("logged in with hunter2")
    shown = capsys.readouterr().err
    assert "logged in with" in shown
    assert "is wrong" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("error", "status"),
    [(DeclarationError([Problem("f.yaml", 3, "a.b", "is wrong.")]), 2), (NotFound("is not."), 1)],
)
def test_a_version_that_does_not_load_has_the_status_of_a_command_that_fails(error, status, capsys):
    """And says why, as every command does."""
    assert running.RunOutput(as_json=False).on_error(error) == status
    shown = capsys.readouterr().err
    assert shown == ("f.yaml:3: a.b: is wrong.\n" if status == 2 else "wakeful: is not.\n")


@pytest.mark.parametrize(
    ("auth", "given", "path"),
    [
        (None, (), "/state/keys.json"),
        (AuthSpec(), (), "/state/keys.json"),
        (AuthSpec(file="k.json"), (), "/project/k.json"),
        (AuthSpec(file="/etc/k.json"), (), "/etc/k.json"),
        (AuthSpec(file="k.json"), ("keys",), "/state/keys.json"),
        (None, ("keys",), "/state/keys.json"),
    ],
)
def test_the_environment_goes_before_the_file_and_that_before_the_default(auth, given, path):
    """A relative path of the file starts in the root folder."""
    settings = replace(
        Settings(Path("/project"), Path("/models"), keys=Path("/state/keys.json")),
        given=frozenset(given),
    )
    assert key_file_of(auth, settings) == Path(path)


KEY = "wk_" + "Zk3" * 14 + "Q"


@pytest.mark.parametrize(
    ("variable", "given", "sent"),
    [
        ("", {}, {}),
        (KEY, {}, {"authorization": f"Bearer {KEY}"}),
        (f" {KEY}\n", {"a": "b"}, {"a": "b", "authorization": f"Bearer {KEY}"}),
        (KEY, {"x-api-key": "mine"}, {"x-api-key": "mine"}),
        (KEY, {"authorization": "mine"}, {"authorization": "mine"}),
    ],
)
def test_a_key_of_the_environment_is_sent_where_none_is_given(monkeypatch, variable, given, sent):
    """It is no argument, which other users of the machine would see."""
    monkeypatch.setenv("WAKEFUL_KEY", variable)
    assert with_key(given) == sent


def test_what_cannot_be_a_header_is_no_key(monkeypatch):
    """And is not repeated."""
    monkeypatch.setenv("WAKEFUL_KEY", f"{KEY}\r\nhost: x")
    with pytest.raises(click.UsageError) as refused:
        with_key({})
    assert KEY[3:20] not in refused.value.message


def test_the_user_of_a_server_that_asks_for_keys_needs_none(up, monkeypatch):
    """On this machine; at a URL the key of the environment is sent."""
    state = up.load()
    assert state is not None
    up.save(replace(state, auth={"file": "/k.json", "keys": []}))
    monkeypatch.setenv("WAKEFUL_KEY", KEY)
    assert place_of("f", None).headers == {SECRET: up.call_secret(up.load())}
    there = place_of("f", "http://10.0.0.1:8000")
    assert there.headers == {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("call f {}", "http://me:canary@host"),
        ("call f {}", "https://canary@host/x"),
        ("call f {}", "me:canary@host"),
        ("call f {}", "http://a@canary@host:1/"),
        *((command, "http://me:canary@host") for command in ("wake f", "top", "capture f")),
    ],
)
def test_a_password_in_a_url_is_refused(command, url):
    """It would be printed, and is not repeated; how it is given instead is said."""
    result = CliRunner().invoke(main, [*command.split(), "--url", url])
    assert result.exit_code == 2, result.output
    assert "canary" not in result.output
    way = "--header" if command.startswith("call") else "WAKEFUL_KEY"
    expect_values(result.output, "--url", way)


@pytest.mark.parametrize("url", ["http://host/a@b", "http://host?a@b", "http://[::1]:80"])
def test_a_url_without_a_password_is_taken(url):
    """Wherever else the sign stands."""
    context = click.Context(main)
    assert check_url(context, context.command.params[0], url) == url
