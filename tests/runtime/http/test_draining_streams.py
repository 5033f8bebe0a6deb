"""The end of `wakeful run` while an answer streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests import serving
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

STAGES = """\
import asyncio, os, time
from collections.abc import Iterator

async def line(n: int, folder: str) -> int:
    while n and not os.path.exists(f"{folder}/go"):
        await asyncio.sleep(0.005)
    return n

def drip(to: int, folder: str) -> Iterator[int]:
    try:
        for n in range(to):
            while n == 1 and not os.path.exists(f"{folder}/go"):
                time.sleep(0.005)
            yield n
    finally:
        open(f"{folder}/closed", "w").close()
"""
FILE = """\
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - name: drip
    route_prefix: /v2/models/drip
    import_path: deployments:function
    args: {graph: [{stage: drip, python: "stages_that_drip:drip"}]}
  - name: line
    route_prefix: /v2/models/line
    import_path: deployments:function
    args: {graph: [{stage: line, python: "stages_that_drip:line"}]}
"""


@contextmanager
def running(folder: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`wakeful run` with one function that streams, and its URL."""
    (folder / "stages_that_drip.py").write_text(STAGES)
    (folder / "serve_config.yaml").write_text(FILE)
    port = serving.free_port()
    environment = {
        **os.environ,
        "WAKEFUL_ROOT": str(folder),
        "PYTHONPATH": str(serving.ROOT),
        **environ,
    }
    command = [
        sys.executable,
        "-m",
        "deployments.cli",
        "run",
        str(folder / "serve_config.yaml"),
        "--port",
        str(port),
    ]
    with (
        (folder / "log").open("w") as out,
        subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            serving.wait_until_live(f"http://127.0.0.1:{port}", process, folder / "log")
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_a_stream_comes_to_its_end(tmp_path):
    """The process waits for it, within the drain time, as for any call; then it exits with 0."""
    with running(tmp_path) as (process, url), httpx.Client(timeout=30) as client:
        with client.stream(
            "POST", f"{url}/v2/models/drip", json={"to": 3, "folder": str(tmp_path)}
        ) as response:
            chunks = response.iter_text()
            assert next(chunks) == 'data: {"drip":0}\n\n'
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: httpx.get(f"{url}/v2/health/ready", timeout=60).status_code == 503)
            (tmp_path / "go").touch()
            rest = "".join(chunks)
        assert rest.startswith('data: {"drip":1}\n\ndata: {"drip":2}\n\nevent: done\n')
        assert process.wait(20) == 0


@pytest.mark.parametrize("is_read", [True, False])
def test_a_stream_that_takes_longer_ends_with_the_reason(tmp_path, is_read):
    """Behind the drain time it is ended with words, whether its generator computes or waits for its
    caller, and that one is closed.
    """
    with (
        running(tmp_path, WAKEFUL_DRAIN_S="0.5") as (process, url),
        httpx.Client(timeout=30) as client,
    ):
        if not is_read:
            (tmp_path / "go").touch()
        with client.stream(
            "POST", f"{url}/v2/models/drip", json={"to": 10**9, "folder": str(tmp_path)}
        ) as response:
            chunks = response.iter_text()
            assert next(chunks).startswith('data: {"drip":0}\n\n')
            process.send_signal(signal.SIGTERM)
            if is_read:
                rest = "".join(chunks)
                assert '"code":"draining"' in rest.split("event: error\n")[1]
                (tmp_path / "go").touch()
            assert process.wait(20) == 0
        assert (
            "1 callers have no answer after the 0.5 s of the drain time"
            in (tmp_path / "log").read_text()
        )
        assert is_read or (tmp_path / "closed").exists()


@pytest.mark.parametrize("is_hot", [False, True])
@pytest.mark.parametrize("is_done", [False, True])
def test_each_row_has_its_line_when_the_process_ends(tmp_path, is_hot, is_done):
    """Its answer, if it is done within the drain time; else why there is none. Then the connection
    closes in order.
    """
    rows = [{"n": n, "folder": str(tmp_path)} for n in range(3)]
    accept = {"accept": "application/x-ndjson"}
    with (
        running(tmp_path, WAKEFUL_DRAIN_S="20" if is_done else "0.5") as (process, url),
        httpx.Client(timeout=30) as client,
    ):
        for _ in range(is_hot):
            assert client.post(f"{url}/v2/models/line", json=rows[:1]).json() == [{"line": 0}]
        with client.stream("POST", f"{url}/v2/models/line", json=rows, headers=accept) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines)) == {"line": 0}
            process.send_signal(signal.SIGTERM)
            if is_done:
                wait_until(
                    lambda: httpx.get(f"{url}/v2/health/ready", timeout=60).status_code == 503
                )
                (tmp_path / "go").touch()
                assert [json.loads(line)["line"] for line in lines] == [1, 2]
            else:
                assert [json.loads(line)["code"] for line in lines] == ["draining"] * 2
                (tmp_path / "go").touch()
        assert process.wait(20) == 0
