"""Servers that tests talk to over HTTP, started as a user would and ended by their process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def run(
    file: Path,
    *,
    root: Path,
    log: Path,
    start_s: float = 60.0,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """`wakeful run FILE` on a free port; gives its URL, and ends it with SIGTERM, which must drain
    and exit with 0.

    Args:
        more: variables of its environment.
    """
    port = free_port()
    environment = {
        **os.environ,
        "WAKEFUL_ROOT": str(root),
        "PYTHONPATH": str(ROOT),
        "TOKENIZERS_PARALLELISM": "false",
        **more,
    }
    command = [sys.executable, "-m", "deployments.cli", "run", str(file), "--port", str(port)]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_live(url, process, log, start_s)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    assert code == 0, f"wakeful run ended with {code}:\n{log.read_text()}"


def wait_until_live(
    url: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 60.0
) -> None:
    """Until the port answers."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        assert process.poll() is None, f"it ended with {process.returncode}:\n{log.read_text()}"
        try:
            if httpx.get(f"{url}/v2/health/live", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"nothing answers at {url}:\n{log.read_text()}")


@contextmanager
def up(file: Path, *, root: Path, more: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """`wakeful up --detach FILE` with a state folder and a port of its own; gives its URL, and
    takes it down again.

    Args:
        more: variables of its environment.
    """
    # Ray's sockets are in it, and their paths must be short
    short = tempfile.mkdtemp(prefix="wk-", dir="/tmp")
    port = free_port()
    environment = {
        **os.environ,
        "WAKEFUL_ROOT": str(root),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": short,
        **more,
    }
    wakeful = [sys.executable, "-m", "deployments.cli"]
    try:
        subprocess.run(
            [*wakeful, "up", "--detach", str(file), "--port", str(port)],
            env=environment,
            check=True,
            timeout=120,
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        subprocess.run([*wakeful, "down"], env=environment, check=True, timeout=120)
        shutil.rmtree(short)
