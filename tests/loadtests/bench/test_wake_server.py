"""Starting and ending a Wakeful in a state folder of its own, with a small stand-in for the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from loadtests.bench.children import ChildFailed
from loadtests.bench.serving import free_port
from loadtests.bench.wake import declare
from loadtests.bench.wake.server import up

STAND_IN = """
import http.server, json, os, pathlib, signal, subprocess, sys, time

ENTRIES = {"f": {"name": "f", "state": "asleep", "doing": "", "reason": ""}}
home = pathlib.Path(os.environ["TMPDIR"], f"wakeful-{os.getuid()}")

class Catalogue(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/functions/")
        found = {"functions": [ENTRIES["f"]]} if self.path == "/" else ENTRIES.get(name)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

pid = pathlib.Path(__file__).with_name("pid")
if sys.argv[1] == "run":
    http.server.HTTPServer(("127.0.0.1", int(os.environ["WAKEFUL_PORT"])), Catalogue).serve_forever()
elif sys.argv[1] == "up" and "bad" in sys.argv[3]:
    sys.exit(f"{sys.argv[3]}:1: unknown key")
elif sys.argv[1] == "up":
    home.mkdir()
    (home / "decisions.jsonl").write_text("".join(json.dumps({"at": at, "function": "f", "why": "w"}) + "\\n" for at in (1, 5)))
    (home / "memory").write_text(os.environ["WAKEFUL_MEMORY_MB"])
    process = subprocess.Popen([sys.executable, __file__, "run"], start_new_session=True)
    pid.write_text(str(process.pid))
    import socket
    while socket.socket().connect_ex(("127.0.0.1", int(os.environ["WAKEFUL_PORT"]))):
        time.sleep(0.02)
elif sys.argv[1] == "down" and pid.exists():
    os.kill(int(pid.read_text()), signal.SIGTERM)
"""


@pytest.fixture
def wakeful(tmp_path: Path) -> list[str]:
    """A command with `up`, `down` and a catalogue of one function that sleeps."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    return [sys.executable, str(tmp_path / "stand_in.py")]


def test_a_server_has_settings_and_a_state_folder_of_its_own(wakeful: list[str], tmp_path: Path) -> None:
    """What it decided is read there; afterwards nothing is left, the folder neither."""
    file = declare.write(tmp_path / "good.yaml", [declare.function("f", [{"stage": "a", "python": "a:b"}])])
    with up(file, free_port(), tmp_path / "log", {"WAKEFUL_MEMORY_MB": "77"}, wakeful) as server:
        assert (server.home / "memory").read_text() == "77"
        assert [told["at"] for told in server.scaled("f", since=2)] == [5]
        assert server.scaled("g", since=0) == []
        assert server.wait("f", "asleep", 10) >= 0
        assert [entry["name"] for entry in server.listed()] == ["f"]
        assert server.url("f") == f"http://127.0.0.1:{server.port}/v2/models/f"
        with pytest.raises(ChildFailed, match=r"GET /functions/g: 404"):
            server.entry("g")
        with pytest.raises(ChildFailed, match="0 processes of the shared host"):
            server.host()
        assert len(server.processes()) == 1
    assert server.processes() == []
    assert not server.home.parent.exists()


def test_a_function_that_does_not_fall_asleep_is_told_with_its_state(wakeful: list[str], tmp_path: Path) -> None:
    """The section fails in these words."""
    file = declare.write(tmp_path / "good.yaml", [declare.function("f", [{"stage": "a", "python": "a:b"}])])
    with (
        up(file, free_port(), tmp_path / "log", {"WAKEFUL_MEMORY_MB": "77"}, wakeful) as server,
        pytest.raises(ChildFailed, match=r"f is not ready after 0\.1 s: asleep"),
    ):
        server.wait("f", "ready", 0.1)


def test_up_that_fails_is_reported_in_its_words(wakeful: list[str], tmp_path: Path) -> None:
    """With the tail of its output."""
    file = tmp_path / "bad.yaml"
    file.write_text(json.dumps({"applications": []}))
    failed = pytest.raises(ChildFailed, match=r"(?s)failed \(exit 1\).*bad\.yaml:1: unknown key")
    with failed, up(file, free_port(), tmp_path / "log", {}, wakeful):
        pass
