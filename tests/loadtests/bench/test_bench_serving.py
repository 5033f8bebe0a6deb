"""Starting and ending a Wakeful, with a small stand-in for the command."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette

from deployments.home import Home, Up
from loadtests.bench import memory
from loadtests.bench.children import ChildFailed
from loadtests.bench.serving import FirstCall, free_port, local, marked, refuse_if_up, up

pytestmark = pytest.mark.slow

STAND_IN = """
import http.server, os, pathlib, signal, subprocess, sys

class Function(http.server.BaseHTTPRequestHandler):
    turns = 0
    def do_POST(self):
        Function.turns += 1
        self.send_response(200 if Function.turns > 2 else 503)
        self.end_headers()

pid = pathlib.Path(__file__).with_name("pid")
if sys.argv[1] == "run":
    http.server.HTTPServer(("127.0.0.1", int(os.environ["WAKEFUL_PORT"])), Function).serve_forever()
elif sys.argv[1] == "up" and sys.argv[3] == "good":
    pid.write_text(str(subprocess.Popen([sys.executable, __file__, "run"], start_new_session=True).pid))
elif sys.argv[1] == "up":
    sys.exit(f"{sys.argv[3]}:1: unknown key")
elif sys.argv[1] == "down" and not pid.with_name("forget").exists() and pid.exists():
    os.kill(int(pid.read_text()), signal.SIGTERM)
"""
FIRST = FirstCall("/v2/models/embed", {"text": "ok"})


@pytest.fixture
def wakeful(tmp_path: Path) -> list[str]:
    """A command with `up`, `down` and `run`; its server refuses twice before it answers."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    return [sys.executable, str(tmp_path / "stand_in.py")]


def test_up_is_timed_to_the_first_good_answer_and_taken_down(wakeful: list[str], tmp_path: Path) -> None:
    """Refusals while it starts do not count, and nothing is left."""
    with up(Path("good"), free_port(), FIRST, tmp_path / "log", wakeful) as server:
        assert 0 < server.first_answer_s < 30
        assert len(server.processes()) == 1
        assert server.post("/any", {}).status_code == 200
    assert server.processes() == []


def test_processes_that_survive_down_are_named_and_ended(wakeful: list[str], tmp_path: Path) -> None:
    """`down` that leaves something behind has failed."""
    (tmp_path / "forget").touch()
    with (
        pytest.raises(ChildFailed, match=r"left after .* s: \d+ python"),
        up(Path("good"), free_port(), FIRST, tmp_path / "log", wakeful) as server,
    ):
        pass
    assert server.processes() == []


def test_up_that_refuses_its_file_is_reported_in_its_words(wakeful: list[str], tmp_path: Path) -> None:
    """There is no use in waiting for an answer."""
    with (
        pytest.raises(ChildFailed, match=r"(?s)ended before the first answer.*bad:1: unknown key"),
        up(Path("bad"), free_port(), FIRST, tmp_path / "log", wakeful),
    ):
        pass


def test_run_is_ended_by_its_id(wakeful: list[str], tmp_path: Path) -> None:
    """It serves in the foreground for as long as the block lasts."""
    with local(Path("good"), free_port(), FIRST, tmp_path / "log", wakeful) as server:
        assert server.post("/any", {}).status_code == 200
        assert len(server.processes()) == 1
    assert server.processes() == []


def test_a_port_in_use_is_said_before_anything_starts(serve: Callable[[Starlette], int]) -> None:
    """With the way out; the environment of a free one carries the port and the mark."""
    port = serve(Starlette())
    with pytest.raises(ChildFailed, match=re.escape(f"127.0.0.1:{port} is in use")):
        marked(port)
    run, environ = marked(free_port())
    assert environ[memory.MARK] == run
    assert environ["WAKEFUL_PORT"].isdigit()


def test_a_cluster_that_is_up_is_left_alone(tmp_path: Path) -> None:
    """There is one at a time, and the benchmark would take it down."""
    home = Home(tmp_path)
    refuse_if_up(home)
    home.save(Up(kind="own", address="a:1", host="127.0.0.1", port=8000, file="f", root="r", models="m"))
    with pytest.raises(ChildFailed, match="up already, at http://127"):
        refuse_if_up(home)
