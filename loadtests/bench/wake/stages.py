"""Stages of functions that are made for one section each."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from loadtests.bench.wake.models import WIDTH
from runtime import Shape

ROW_S = 0.1
"""Seconds of work in a row: ten of them are one second."""


class Worked(TypedDict):
    """Who did it."""

    pid: int


def work(x: float) -> Worked:
    """Sleeps, and computes nothing, so that many replicas work on few cores."""
    time.sleep(ROW_S)
    return {"pid": os.getpid()}


class Hold:
    """Keeps a file's bytes in memory of its own, as a stage with tables of its own does.

    Args:
        file: any file.
    """

    def __init__(self, file: Path) -> None:
        self._bytes = np.fromfile(file, np.uint8)

    def __call__(self, row: Annotated[NDArray[np.float32], Shape(WIDTH)]) -> Held:
        return {"byte": int(self._bytes[int(row[0] * len(self._bytes))])}


class Held(TypedDict):
    """A byte of what is kept: the one that the model's number from 0 to 1 points at."""

    byte: int
