"""Stages that tell in how large a company each line of a page was read; put behind those of `ocr`."""

from __future__ import annotations

from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from apps.ocr import Read
from runtime import Rows, Shape


def company(characters: Rows[Annotated[NDArray[np.int64], Shape(-1)]]) -> Rows[int]:
    """How many lines were in the run of the recogniser: a stage behind a model is called with the rows of its run."""
    return [len(characters)] * len(characters)


class Told(TypedDict):
    """The answer of `ocr`, and of each line found, read or not, its company."""

    lines: list[Read]
    company: list[int]


def told(lines: list[Read], company: list[int]) -> Told:
    """Both as they are."""
    return {"lines": lines, "company": company}
