"""`wakeful top` on a terminal, in a pipe, and at servers that end, refuse, or are no servers."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psutil
import pytest

from deployments.cli.operations.live.readings import STEPS
from tests.deployments.cli.operations.live.entries import entry
from tests.deployments.local.running import shell
from tests.serving import free_port

WAIT_S = 30.0
COMMAND = (sys.executable, "-m", "deployments.cli", "top")
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][0-9A-B]")

LEAVES_SCREEN = "\x1b[?1049l"
SHOWS_CURSOR = "\x1b[?25h"

FUNCTIONS = [
    entry("f0", state="failed", tier="own", reason="no model"),
    entry("f1", state="ready", tier="own", replicas=1, last_minute={"p50_ms": 12.0}),
    entry("f2", state="ready", tier="own", replicas=2),
]
LINE = {
    name: [None] * (STEPS - 1) + [12.0]
    for name in ("calls_per_s", "p50_ms", "p95_ms", "errors_per_s")
}
MACHINE = {
    "id": "m",
    "address": "10.0.0.7",
    "cpus": 2,
    "used_bytes": 1e6,
    "budget_bytes": 5e6,
    "processes": 1,
    "gpus": [],
}
EVENTS = (
    ("functions", {"all": True, "functions": FUNCTIONS, "removed": []}),
    ("samples", {"step_s": 5, "from": 0, "steps": STEPS, "functions": {"f1": LINE}}),
    ("server", {"kind": "up", "machines": [MACHINE], "lacks": []}),
)
"""What the far side says: three functions on one machine."""


class FarSide:
    """A server of events, which says what a test wants.

    Attributes:
        url: its address.
        statuses: of its answers, the last one of all that follow.
        asked: the headers of each request.
        more: set: another event is sent, in which `f1` is renamed.
        is_cut: set: its streams end.
        has_moved: set: the next streams are of another server, to which the open one leads.
    """

    def __init__(self) -> None:
        self.statuses = [200]
        self.asked: list[Mapping[str, str]] = []
        self.more = threading.Event()
        self.is_cut = threading.Event()
        self.has_moved = threading.Event()
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """A request."""
        self.asked.append(dict(handler.headers.items()))
        status = self.statuses[min(len(self.asked), len(self.statuses)) - 1]
        handler.send_response(status)
        if status != 200:
            handler.send_header("content-type", "application/json")
            handler.end_headers()
            handler.wfile.write(b'{"error": "there are too many. Close one."}')
            return
        handler.send_header("content-type", "text/event-stream; charset=utf-8")
        handler.end_headers()
        for name, data in EVENTS:
            self._send(handler, name, data)
        until, had_moved = time.monotonic() + WAIT_S, self.has_moved.is_set()
        while not self.is_cut.wait(0.02) and time.monotonic() < until:
            if self.has_moved.is_set() and not had_moved:
                self._send(handler, "closing", {"is_moving": True})
                return
            if self.more.is_set():
                self.more.clear()
                changed = {**FUNCTIONS[1], "name": "renamed"}
                news = {"all": False, "functions": [changed], "removed": ["f1"]}
                self._send(handler, "functions", news)

    def _send(self, handler: BaseHTTPRequestHandler, name: str, data: Any) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
            handler.wfile.flush()


@pytest.fixture
def far_side() -> Iterator[FarSide]:
    """Ends with the test, as its streams do."""
    side = FarSide()

    class Handler(BaseHTTPRequestHandler):
        """Of its requests."""

        def do_GET(self) -> None:
            """Each."""
            side.answer(self)

        def log_message(self, *words: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        side.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield side
        finally:
            side.is_cut.set()
            server.shutdown()
            thread.join()


class Terminal:
    """A process on a terminal of its own, as a user sees it.

    Attributes:
        written: all that the process has written, as it came.
    """

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self.written = ""

    def wait_for(self, is_there: Callable[[str], Any]) -> str:
        """What has been written since the last key, without colours, once it has what is wanted."""
        begun, until = len(self.written), time.monotonic() + WAIT_S
        while True:
            shown = _ESCAPES.sub("", self.written[begun:])
            if is_there(shown):
                return shown
            assert time.monotonic() < until, shown
            if select.select([self._master], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self.written += os.read(self._master, 1 << 16).decode(errors="replace")

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._master, keys)

    def resize(self, columns: int, lines: int) -> None:
        """As a user pulls at a corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def modes(self) -> list[Any]:
        """How keys are read."""
        return termios.tcgetattr(self._master)

    def end(self) -> int:
        """Its exit status; what it wrote until then is read."""
        until = time.monotonic() + WAIT_S
        while self.process.poll() is None:
            assert time.monotonic() < until, self.written
            self.wait_for(lambda shown: True)
            time.sleep(0.02)
        while select.select([self._master], [], [], 0.05)[0]:
            try:
                self.written += os.read(self._master, 1 << 16).decode(errors="replace")
            except OSError:
                break
        return self.process.returncode


@contextlib.contextmanager
def terminal(
    *arguments: str, columns: int = 120, lines: int = 20, more: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """`wakeful top` on a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **(more or {})}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=environment,
    ) as process:
        try:
            yield Terminal(process, master)
        finally:
            process.kill()
            os.close(slave)
            os.close(master)


@pytest.mark.slow
def test_the_table_lives_until_q(far_side):
    """It shows what the server says and each change of it, sorts, searches and follows the size of
    the terminal; then the terminal is as it was. The key of the environment is sent.
    """
    key = {"WAKEFUL_KEY": "wk_" + "x" * 43}
    with terminal("--url", far_side.url, more=key) as screen:
        before = screen.modes()
        shown = screen.wait_for(lambda shown: "q quit" in shown and "12 ms" in shown)
        assert "3 functions: 1 failed, 2 ready" in shown
        assert "10.0.0.7  2 CPUs" in shown
        assert shown.index("f1") < shown.index("f0") < shown.index("f2")  # the busy one first
        assert not screen.modes()[3] & (termios.ICANON | termios.ECHO)
        assert screen.modes()[3] & termios.ISIG
        assert far_side.asked[0]["authorization"] == f"Bearer wk_{'x' * 43}"
        screen.press(b"\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D")  # to the name
        assert screen.wait_for(lambda shown: re.search(r"function↑.*f0.*f1.*f2", shown, re.DOTALL))
        screen.press(b"/f2\r")
        screen.wait_for(
            lambda shown: "found: 'f2'" in shown and "f1" not in shown.rpartition("/s")[2]
        )
        screen.press(b"\x1b")
        screen.wait_for(lambda shown: "f1" in shown)
        far_side.more.set()
        screen.wait_for(lambda shown: "renamed" in shown)
        screen.resize(40, 12)
        shown = screen.wait_for(lambda shown: shown.count("q quit") > 1)
        assert "replicas" not in shown.rpartition("wakeful top")[2]
        screen.press(b"q")
        assert screen.end() == 0
        assert screen.modes() == before
        assert LEAVES_SCREEN in screen.written
        assert "Traceback" not in screen.written


full = pytest.mark.full  # the test above shows the table, the next one what a pipe gets


@full
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(far_side, number):
    """Ctrl-C is the first of them."""
    with terminal("--url", far_side.url) as screen:
        before = screen.modes()
        screen.wait_for(lambda shown: "q quit" in shown)
        screen.process.send_signal(number)
        assert screen.end() == 0
        assert screen.modes() == before
        assert LEAVES_SCREEN in screen.written


@full
@pytest.mark.slow
def test_a_shell_gets_its_terminal_back_meanwhile(far_side):
    """Ctrl-Z suspends it, and `fg` goes on."""
    with terminal("--url", far_side.url) as screen:
        before = screen.modes()
        screen.wait_for(lambda shown: "q quit" in shown)
        screen.process.send_signal(signal.SIGTSTP)
        state = psutil.Process(screen.process.pid)
        screen.wait_for(
            lambda shown: (
                state.status() == psutil.STATUS_STOPPED
                and screen.written.rstrip().endswith(SHOWS_CURSOR)  # all has been read
            )
        )
        assert screen.modes() == before
        screen.process.send_signal(signal.SIGCONT)
        screen.wait_for(lambda shown: "q quit" in shown)
        screen.press(b"q")
        assert screen.end() == 0


def last_of(shown: str) -> str:
    """The last picture, as far as it is drawn."""
    return shown.rpartition("wakeful top")[2]


def is_connected(picture: str) -> bool:
    """Whether it is whole, and of a server that answers."""
    return "q quit" in picture and "f1" in picture and "connecting" not in picture


@full
@pytest.mark.slow
def test_a_server_that_ends_is_asked_again(far_side):
    """What was known of its functions stays; what is known by the next stream is shown."""
    with terminal("--url", far_side.url) as screen:
        screen.wait_for(lambda shown: "q quit" in shown and "f1" in shown)
        far_side.is_cut.set()
        screen.wait_for(lambda shown: "the server has ended; connecting again" in shown)
        far_side.is_cut.clear()
        screen.wait_for(lambda shown: len(far_side.asked) >= 2 and is_connected(last_of(shown)))
        screen.press(b"q")
        assert screen.end() == 0


@full
@pytest.mark.slow
def test_a_stream_that_moves_is_followed_without_a_word(far_side):
    """As each minute, where calls need keys."""
    with terminal("--url", far_side.url) as screen:
        screen.wait_for(lambda shown: "q quit" in shown and "f1" in shown)
        far_side.has_moved.set()
        screen.wait_for(lambda shown: len(far_side.asked) >= 2)
        far_side.more.set()
        screen.wait_for(lambda shown: "renamed" in shown)
        screen.press(b"q")
        assert screen.end() == 0
        assert "connecting" not in screen.written


def piped(
    *arguments: str, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`wakeful top`, read by a program."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **(more or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


@pytest.mark.slow
def test_a_pipe_gets_one_table(far_side):
    """As soon as the server has said all, and no control sequence is in it."""
    told = piped("--url", far_side.url, "--sort", "function", "--search", "ready")
    assert told.returncode == 0, told.stderr
    assert "\x1b" not in told.stdout
    rows = [line.split() for line in told.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0].startswith("f")] == ["function", "f1", "f2"]


@full
@pytest.mark.slow
def test_a_server_that_begins_is_waited_for(far_side):
    """It is asked until it has all to say, where the table is printed once."""
    far_side.statuses = [503, 503, 200]
    told = piped("--url", far_side.url)
    assert (told.returncode, len(far_side.asked)) == (0, 3)
    assert "3 functions: 1 failed, 2 ready" in told.stdout


@full
@pytest.mark.slow
def test_what_shows_nothing_says_why(far_side, tmp_path):
    """Each status in words with what to do, on the first line of the server; exit status 1."""
    for status, words in (
        (401, "WAKEFUL_KEY"),
        (404, "console: false"),
        (500, "there are too many. Close one"),
    ):
        far_side.statuses = [status]
        told = piped("--url", far_side.url)
        assert (told.returncode, words in told.stdout) == (1, True), told
    unknown = piped("--url", far_side.url, "--sort", "calls")
    assert unknown.returncode == 2
    assert "did you mean 'calls/s'?" in unknown.stderr
    gone = piped("--url", f"http://127.0.0.1:{free_port()}")
    assert (gone.returncode, "nothing answers" in gone.stdout) == (1, True), gone
    (tmp_path / "t").mkdir()
    nothing = piped(more={"TMPDIR": str(tmp_path / "t")})
    assert (nothing.returncode, nothing.stdout) == (0, "nothing is up.\n")


@full
@pytest.mark.slow
def test_a_run_is_found_and_followed(tmp_path):
    """Its functions, and their state as it changes."""
    with shell(tmp_path) as project:
        project.write("hello")
        with project.serving() as run, terminal(more=project.environment) as screen:
            screen.wait_for(lambda shown: "1 function: 1 " in shown and run.url in shown)
            unload = f"{run.url}/v2/repository/models/hello/unload"
            assert httpx.post(unload, json={}, timeout=WAIT_S).status_code == 200
            screen.wait_for(lambda shown: "1 asleep" in shown)
            run.call()
            screen.wait_for(lambda shown: "1 ready" in shown)
            screen.press(b"q")
            assert screen.end() == 0
