"""Stages of the functions that hostile clients call: they say what reached them."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import Annotated, TypedDict

from wakeful import Header


class Seen(TypedDict):
    """What reached the function: the header `x-marker`, and the body in base64."""

    marker: str
    body: str


class Record:
    """Answers with what it was called with, and writes that down, a line a call; lines of several
    processes do not mix.

    Args:
        to: the file.
    """

    def __init__(self, to: str) -> None:
        self._to = to

    def __call__(self, content: bytes, marker: Annotated[str, Header("x-marker")] = "") -> Seen:
        seen: Seen = {"marker": marker, "body": base64.b64encode(content).decode()}
        file = os.open(self._to, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, json.dumps(seen).encode() + b"\n")
        finally:
            os.close(file)
        return seen


def wait(seconds: float) -> float:
    """Answers after a while."""
    time.sleep(seconds)
    return seconds
