"""Processes of the commands that import Ray: started with the cluster's environment; options are on
their command line, requests and events are lines of JSON.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from deployments.ray_support.environment import LOOPBACK, inherited_variables
from deployments.ray_support.workers.forked_process import ForkedProcess, NotForked
from runtime.errors import WakefulError

KILLED_S: Final = 10.0
"""Longest wait for the end of the process that was killed."""

CONNECT_S: Final = 30.0
"""Ray itself tries for minutes to connect to a cluster that is not there."""


class RayError(WakefulError):
    """Ray did not do what was asked; the message is Ray's own, or says where it is."""

    code = "ray_failed"
    fault = "operator"


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How the head of a cluster is started.

    Attributes:
        num_gpus: None lets Ray count them.
        port: of Ray's control store; a free one.
        node_ip: the address of this machine that Ray listens on; the loopback address keeps other
            machines out.
    """

    temp_dir: str
    num_cpus: int
    object_store_bytes: int
    port: int
    num_gpus: int | None = None
    node_ip: str = LOOPBACK

    @classmethod
    def decode(cls, text: str) -> HeadOptions:
        """From ``encode``'s text."""
        return cls(**json.loads(text))

    def encode(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))


def node_command(
    address: str,
    *,
    num_cpus: int,
    object_store_bytes: int,
    node_ip: str = "",
    num_gpus: int | None = None,
) -> list[str]:
    """What ``spawn_process`` starts to add this machine to a cluster: ``ray start``, without its
    log monitor, which only a driver's console needs.

    Args:
        node_ip: empty: Ray finds it.
        num_gpus: None: those that Ray finds.
    """
    options = {
        "address": address,
        "num-cpus": num_cpus,
        "object-store-memory": object_store_bytes,
        "include-log-monitor": "false",
        "dashboard-agent-listen-port": 0,
        **({"node-ip-address": node_ip} if node_ip else {}),
        **({"num-gpus": num_gpus} if num_gpus is not None else {}),
    }
    flags = (f"--{name}={value}" for name, value in options.items())
    return ["ray.scripts.scripts", "start", "--disable-usage-stats", *flags]


def spawn_process(
    arguments: list[str], *, variables: Mapping[str, str], log: Path, folder: str, pipes: bool
) -> subprocess.Popen[str]:
    """Starts a Python process in a session of its own: a terminal's Ctrl-C does not reach it, and
    it holds no stream of this process but pipes.
    """
    with log.open("a", encoding="utf-8") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else out,
            stderr=out,
            env=inherited_variables(variables),
            cwd=folder,
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )


DRIVER: Final = "deployments.cluster.driver"


class DriverClient:
    """One process of ``deployments.cluster.driver``: imports Ray at once, or is forked off one that
    has, serves one request after another, and has ended after the ``with``.

    Args:
        log: of that process; errors name it.
        ray_logs: the folder of Ray's own logs, where they are on this machine; errors name it too.
        server: the socket of a fork server, if there may be one.
    """

    def __init__(
        self,
        *,
        variables: Mapping[str, str],
        log: Path,
        folder: str,
        ray_logs: Path | None = None,
        server: Path | None = None,
    ) -> None:
        self._log = log
        self._ray_logs = ray_logs
        self._child: subprocess.Popen[str] | ForkedProcess
        try:
            if server is None:
                raise NotForked
            environment = inherited_variables(variables)
            self._child = ForkedProcess(server, DRIVER, environment, folder, log)
        except NotForked:
            self._child = spawn_process(
                [DRIVER], variables=variables, log=log, folder=folder, pipes=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, verb: str, address: str, **request: Any) -> Iterator[dict[str, Any]]:
        """The events of a request, as they come; read all of them before the next request.

        Raises:
            RayError: it failed, or the process died.
        """
        assert self._child.stdin
        assert self._child.stdout
        try:
            self._child.stdin.write(
                json.dumps({"verb": verb, "address": address, **request}) + "\n"
            )
            self._child.stdin.flush()
        except BrokenPipeError:
            raise RayError(
                f"the process that talks to Ray did not start. {self._log_hint()}"
            ) from None
        until, is_connected = time.monotonic() + CONNECT_S, False
        connecting = threading.Timer(CONNECT_S, self._child.kill)
        connecting.daemon = True  # a command that is interrupted here does not wait for it
        connecting.start()
        try:
            for line in self._child.stdout:
                connecting.cancel()
                is_connected = True
                event: dict[str, Any] = json.loads(line)
                if event["event"] == "done":
                    return
                if event["event"] == "error":
                    raise RayError(f"{event['message']} {self._log_hint()}")
                yield event
        finally:
            connecting.cancel()
        why = (
            f"could not connect to {address} within {CONNECT_S:.0f} s"
            if not is_connected and time.monotonic() >= until
            else "ended unasked"
        )
        raise RayError(f"the process that talks to Ray {why}. {self._log_hint()}")

    def kill(self) -> None:
        """Ends the process, whatever it does: it owns nothing that needs an orderly end. From any
        thread; one that reads events then gets a ``RayError``.
        """
        self._child.kill()

    def close(self) -> None:
        """Ends the process, and gives back what it took. Idempotent; not while another thread reads
        events.
        """
        self.kill()
        with contextlib.suppress(TimeoutError, subprocess.TimeoutExpired):  # the system holds it
            self._child.wait(timeout=KILLED_S)
        for stream in (self._child.stdin, self._child.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):  # of a request that it did not read
                    stream.close()

    def _log_hint(self) -> str:
        also = f"; Ray's own logs are in {self._ray_logs}" if self._ray_logs else ""
        return f"The whole of it is in {self._log}{also}."
