"""Our own processes that import Ray: started with the cluster's environment, spoken to in lines of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from deployments.rayenv import inherited
from runtime.errors import WakefulError

CONNECT_S: Final = 30.0
"""Ray itself tries for minutes to connect to a cluster that is not there."""


class RayError(WakefulError):
    """Ray did not do what was asked; the message is Ray's own, or says where it stands."""

    code = "ray_failed"
    fault = "operator"


def spawn(arguments: list[str], *, variables: Mapping[str, str], log: Path, folder: str, pipes: bool) -> subprocess.Popen[str]:
    """A Python process in a session of its own: a terminal's Ctrl-C does not reach it, and it holds no stream of ours but pipes."""
    with log.open("a", encoding="utf-8") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else out,
            stderr=out,
            env=inherited(variables),
            cwd=folder,
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )


class Driver:
    """One ``deployments.driver``: begins to import Ray at once, serves one request after another, is gone after the ``with``."""

    def __init__(self, *, variables: Mapping[str, str], log: Path, folder: str) -> None:
        self._log = log
        self._child = spawn(["deployments.driver"], variables=variables, log=log, folder=folder, pipes=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def ask(self, verb: str, address: str, **request: Any) -> Iterator[dict[str, Any]]:
        """The events of a request, as they come; all are heard before the next one is made.

        Raises:
            RayError: it failed, or the process died.
        """
        assert self._child.stdin
        assert self._child.stdout
        try:
            self._child.stdin.write(json.dumps({"verb": verb, "address": address, **request}) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise RayError(f"the process that talks to Ray did not start. {self._see()}") from None
        connecting = threading.Timer(CONNECT_S, self._child.kill)
        connecting.start()
        for line in self._child.stdout:
            connecting.cancel()
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "done":
                return
            if event["event"] == "error":
                raise RayError(f"{event['message']} {self._see()}")
            yield event
        connecting.cancel()
        why = "ended unasked" if self._child.wait() >= 0 else f"could not connect to {address} within {CONNECT_S:.0f} s"
        raise RayError(f"the process that talks to Ray {why}. {self._see()}")

    def close(self) -> None:
        """End the process, whatever it does; twice is once."""
        if self._child.poll() is None:
            self._child.kill()  # it owns nothing that needs an orderly end
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream:
                stream.close()

    def _see(self) -> str:
        return f"The whole of it is in {self._log}."
