"""The end of `wakeful run`: what a client sees of it on its socket, and what the process that
started it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import serving
from tests.deployments.projects import wait_until
from tests.problems import expect_values
from tests.wire import Wire

pytestmark = pytest.mark.slow

STAGES = """\
import os, time

def wait(begun: str, go: str) -> dict[str, str]:
    open(begun, "w").close()
    while not os.path.exists(go):
        time.sleep(0.005)
    return {"said": begun}
"""
FILE = """\
applications:
  - name: catalogue
    route_prefix: /
    import_path: deployments:catalogue
  - name: wait
    route_prefix: /v2/models/wait
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "stages_of_draining:wait"}]
      resources: {num_cpus: 2}
      limits: {request_timeout_s: 60}
      autoscaling: {min_replicas: 1}
"""
CALL = "/v2/models/wait"


@dataclass
class Server:
    """`wakeful run` with one function that answers when it may."""

    process: subprocess.Popen[bytes]
    port: int
    go: Path
    log: Path
    ends: ExitStack

    def connect(self, *, is_hot: bool = False) -> Wire:
        """A connection, closed with the server; a hot one has served a request."""
        wire = Wire(self.port)
        self.ends.callback(wire.close)
        if is_hot:
            assert wire.ask("GET", CALL)[0] == 200
        return wire

    def call(self, begun: Path) -> tuple[str, str, object]:
        """A call that says with a file that it has begun, and waits for one."""
        return "POST", CALL, {"begun": str(begun), "go": str(self.go)}

    def refuses(self) -> bool:
        """Whether it drains, as a balancer of load would see it."""
        return self.connect().ask("GET", "/v2/health/ready")[0] == 503


@pytest.fixture
def start(tmp_path: Path):
    """Starts it with more environment."""
    (tmp_path / "stages_of_draining.py").write_text(STAGES)
    (tmp_path / "serve_config.yaml").write_text(FILE)

    @contextmanager
    def started(**environ: str) -> Iterator[Server]:
        port = serving.free_port()
        log = tmp_path / "log"
        environment = {
            **os.environ,
            "WAKEFUL_ROOT": str(tmp_path),
            "PYTHONPATH": str(serving.ROOT),
            **environ,
        }
        command = [
            sys.executable,
            "-m",
            "deployments.cli",
            "run",
            str(tmp_path / "serve_config.yaml"),
            "--port",
            str(port),
        ]
        with (
            log.open("w") as out,
            ExitStack() as ends,
            subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process,
        ):
            try:
                serving.wait_until_live(f"http://127.0.0.1:{port}", process, log)
                yield Server(process, port, tmp_path / "go", log, ends)
            finally:
                process.kill()

    return started


@pytest.mark.parametrize("is_hot", [False, True])
def test_what_was_accepted_is_answered_and_what_is_new_is_refused(start, tmp_path, is_hot):
    """Readiness fails first; calls in flight, and those pipelined behind them, get 200, each
    connection's last one with `Connection: close`; new ones get 503 `draining`, also on a kept
    connection; an idle connection is closed; it exits with 0."""
    with start() as server:
        idle, silent, alone, piped = (server.connect(is_hot=is_hot) for _ in range(4))
        assert (
            idle.ask("GET", "/v2/health/ready")[0]
            == silent.ask("GET", "/v2/health/ready")[0]
            == 200
        )
        alone.send(server.call(tmp_path / "alone"))
        piped.send(server.call(tmp_path / "first"), server.call(tmp_path / "second"))
        wait_until(lambda: (tmp_path / "alone").exists() and (tmp_path / "first").exists())
        server.process.send_signal(signal.SIGTERM)
        wait_until(server.refuses)

        assert server.connect().ask("GET", f"{CALL}/ready")[0] == 503
        status, headers, body = idle.ask(*server.call(tmp_path / "late"))
        assert (
            status,
            headers["connection"],
            headers["retry-after"],
            json.loads(body)["code"],
        ) == (503, "close", "1", "draining")
        assert idle.is_ended()
        status, headers, _ = server.connect().ask("GET", "/v2/health/live")
        assert (status, headers["connection"]) == (200, "close")
        assert server.process.poll() is None

        server.go.touch()
        answers = [alone.read(), piped.read(), piped.read()]
        assert [status for status, _, _ in answers] == [200, 200, 200]
        assert [headers.get("connection") for _, headers, _ in answers] == ["close", None, "close"]
        assert [Path(json.loads(body)["said"]).name for _, _, body in answers] == [
            "alone",
            "first",
            "second",
        ]
        assert alone.is_ended()
        assert piped.is_ended()
        assert silent.is_ended()
        assert server.process.wait(20) == 0
    assert not (tmp_path / "late").exists()


def test_a_request_that_waits_behind_another_is_refused(start, tmp_path):
    """On a hot connection it has not begun; the one before it is answered."""
    with start() as server:
        caller = server.connect(is_hot=True)
        caller.send(server.call(tmp_path / "begun"))
        wait_until((tmp_path / "begun").exists)
        caller.send(server.call(tmp_path / "behind"))
        time.sleep(0.1)  # until it has arrived, which nothing shows
        server.process.send_signal(signal.SIGTERM)
        wait_until(server.refuses)
        server.go.touch()
        assert caller.read()[0] == 200
        status, headers, body = caller.read()
        assert (status, headers["connection"], json.loads(body)["code"]) == (
            503,
            "close",
            "draining",
        )
        assert caller.is_ended()
        assert server.process.wait(20) == 0
    assert not (tmp_path / "behind").exists()


@pytest.mark.parametrize("is_hot", [False, True])
def test_the_drain_time_ends_the_wait(start, tmp_path, is_hot):
    """What is not answered by then is refused, in our form, though its stage never returns; and it
    is said.
    """
    with start(WAKEFUL_DRAIN_S="0.2") as server:
        caller = server.connect(is_hot=is_hot)
        caller.send(server.call(tmp_path / "begun"))
        wait_until((tmp_path / "begun").exists)
        server.process.send_signal(signal.SIGTERM)
        status, headers, body = caller.read()
        assert (status, headers["connection"], json.loads(body)["code"]) == (
            503,
            "close",
            "draining",
        )
        assert caller.is_ended()
        assert server.process.wait(20) == 0
        (said,) = (line for line in server.log.read_text().splitlines() if "callers" in line)
        expect_values(said, "1 callers", "0.2 s", "refused")


def test_a_second_signal_does_not_wait(start, tmp_path):
    """It says what is lost, and the exit status is an interrupted command's."""
    with start() as server:
        caller = server.connect()
        caller.send(server.call(tmp_path / "begun"))
        wait_until((tmp_path / "begun").exists)
        server.process.send_signal(signal.SIGTERM)
        wait_until(server.refuses)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 130
        (said,) = (line for line in server.log.read_text().splitlines() if "callers" in line)
        expect_values(said, "twice", "1 callers")
