"""Whether a prepared form may stand in for its model: the same answers, loads no slower; and which memory planning is the cheaper."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.footprint import Footprint
from runtime.memory import give_back
from runtime.onnx import madeup
from runtime.onnx.options import SessionPlan
from runtime.onnx.prepared import Prepared
from runtime.onnx.session import Session

Feeds = Mapping[str, madeup.Array]

TOLERANCE: Final = 1e-6
"""Relative and absolute. The same kernels run on the same numbers, so that it is 0; but a model may name no order for a sum."""

SIZES: Final = ((8, 64), (8, 16), (2, 224), (1, 16), (1, 1))
"""Rows, and size of other free dimensions, to try a model at: it may take some of them only."""

LOADS: Final = 3

HEAVIER: Final = 1.05
HEAVIER_BYTES: Final = 1_000_000
"""Planning that loads faster may take so much more memory, by factor and beside it: less is what two measurements of one differ by."""

SLOWER_S: Final = 0.002
"""A prepared form may load so much slower than the original: less is noise."""


class RefusedError(Exception):
    """The original stays in use, and why."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a form of a model costs.

    Attributes:
        load_s: seconds until its session is open.
        peak_bytes: memory of its own, after a run: the arena keeps what it once needed.
    """

    load_s: float
    peak_bytes: int


def choose(original: Cost, with_reuse: Cost, without: Cost) -> bool:
    """Whether the prepared form is to be loaded with ``enable_mem_reuse``.

    Raises:
        RefusedError: it is loaded slower than the original either way.
    """
    is_fit = without.peak_bytes <= with_reuse.peak_bytes * HEAVIER + HEAVIER_BYTES
    chosen = without if is_fit and without.load_s < with_reuse.load_s else with_reuse
    if chosen.load_s > original.load_s + SLOWER_S:
        raise RefusedError(f"it loads in {chosen.load_s * 1000:.1f} ms, the original in {original.load_s * 1000:.1f}")
    return chosen is with_reuse


def runnable(session: Session) -> list[Feeds]:
    """Made-up inputs that the model runs on, the largest first.

    Raises:
        RefusedError: there are none.
    """
    if found := list(_runnable(session)):
        return found
    raise RefusedError("it runs on nothing that was made up, so answers cannot be compared")


def refuse_differing(original: Session, form: Session, feeds: Sequence[Feeds]) -> None:
    """Compares interfaces and answers.

    Raises:
        RefusedError: they differ.
    """
    if not form.prepared:
        raise RefusedError("ONNX Runtime does not open what it saved")
    if form.info != original.info:
        raise RefusedError("its inputs and outputs are not those of the model")
    for feed in feeds:
        for spec, wanted, found in zip(original.info.outputs, original.run(feed), form.run(feed), strict=True):
            if not is_same(wanted, found):
                raise RefusedError(f"its answer differs in {spec.name!r}")


def is_same(wanted: Any, found: Any) -> bool:
    """Whether two outputs are one, up to ``TOLERANCE``."""
    wanted, found = np.asarray(wanted), np.asarray(found)
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return False
    if wanted.dtype.kind == "f":
        return bool(np.allclose(wanted, found, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool(np.array_equal(wanted, found))


def cost(path: Path, plan: SessionPlan, form: Prepared | None, feed: Feeds) -> Cost:
    """Measures: the shortest of some loads, and a run."""
    loads = []
    for _ in range(LOADS):
        began = time.perf_counter()
        session = Session(path, plan, form)
        loads.append(time.perf_counter() - began)
        del session
    give_back()
    before = Footprint.of()
    session = Session(path, plan, form)
    session.run(feed)
    return Cost(min(loads), Footprint.of().since(before).own_bytes)


def _runnable(session: Session) -> Iterator[Feeds]:
    tried: set[tuple[tuple[int, ...], ...]] = set()
    for rows, free in SIZES:
        shapes = tuple(array.shape for array in madeup.ones(session.info.inputs, rows, free).values())
        if shapes in tried:  # a model without free dimensions has one size
            continue
        tried.add(shapes)
        for make in (madeup.varied, madeup.ones):
            feeds = make(session.info.inputs, rows, free)
            if session.takes(feeds):
                yield feeds
