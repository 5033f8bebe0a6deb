"""The function that is called while machines come and go: its answer is a pure function of the request, and says which machine gave it."""

from __future__ import annotations

import socket
import time
from typing import TypedDict

from loadtests.faults.stages import digest


class Placed(TypedDict):
    """A proof that it was done, and where."""

    digest: str
    machine: str


def work(key: str, ms: float, padding: str) -> Placed:
    """Takes as long as it is asked to, without computing, so that many replicas work on few cores."""
    time.sleep(ms / 1000)
    return {"digest": digest(key, ms, padding), "machine": socket.gethostname()}
