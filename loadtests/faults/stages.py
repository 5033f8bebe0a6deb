"""The functions that are called while things break: work whose answer is a pure function of the request, and versions that are bad."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from typing import Literal, TypedDict

Fault = Literal["", "raises", "raises on Ray", "dies on Ray"]
"""What is wrong with a version."""


class Worked(TypedDict):
    """A proof that it was done, and by whom."""

    digest: str
    pid: int
    version: int


class Work:
    """Takes as long as it is asked to, without computing, so that many replicas work on few cores.

    Args:
        version: told in the answers.
        fault: what is wrong with this version: it does not load, or only in Wakeful on Ray, or it kills its process there.
    """

    def __init__(self, version: int = 1, fault: Fault = "") -> None:
        self._version = version
        is_on_ray = "ray" in sys.modules
        if fault == "raises" or (fault == "raises on Ray" and is_on_ray):
            raise ValueError(f"version {version} was made to fail")
        if fault == "dies on Ray" and is_on_ray:
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, key: str, ms: float, padding: str) -> Worked:
        if ms < 0:
            raise ValueError("a poisoned row")
        time.sleep(ms / 1000)
        return {"digest": digest(key, ms, padding), "pid": os.getpid(), "version": self._version}


def digest(key: str, ms: float, padding: str) -> str:
    """What only who has the whole request can answer."""
    return hashlib.blake2b(f"{key}|{ms}|{padding}".encode(), digest_size=16).hexdigest()
