"""ONNX Runtime alone on every core: the limit of the machine, in processes that share nothing.

Each has a session of one thread. Batches are built before the clock starts: what is measured is the
model and nothing else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from loadtests.bench.texts import Plan, Text

Rows = list[tuple[int, ...]]

START_S = 120.0
"""Longest wait of a worker for the others."""

_session: Any = None
_barrier: Any = None


def _open(path: str, barrier: threading.Barrier) -> None:
    """Opens a worker's session as a careful user would by hand."""
    global _session, _barrier
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    _session = onnxruntime.InferenceSession(path, options, providers=providers)
    _barrier = barrier


def _feeds(rows: Rows) -> dict[str, np.ndarray]:
    """Token ids padded to the longest row, the mask that shows them, zeros for other inputs."""
    shape = (len(rows), max(map(len, rows)))
    feeds = {tensor.name: np.zeros(shape, np.int64) for tensor in _session.get_inputs()}
    for index, row in enumerate(rows):
        feeds["input_ids"][index, : len(row)] = row
        if "attention_mask" in feeds:
            feeds["attention_mask"][index, : len(row)] = 1
    return feeds


def _rate(rows: Rows, plan: Plan, seconds: float) -> float:
    """Rows a second over whole passes: a pass is never cut, since its batches are not alike."""
    batches = [_feeds([rows[index] for index in batch]) for batch in plan]
    for batch in batches[:3]:
        _session.run(None, batch)
    _barrier.wait(START_S)
    passes, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for batch in batches:
            _session.run(None, batch)
        passes += 1
    return passes * sum(map(len, plan)) / elapsed


def _embed(rows: Rows) -> list[list[float]]:
    return [_session.run(None, _feeds([row]))[0][0].tolist() for row in rows]


class BareLoop:
    """Worker processes; idle between measurements."""

    def __init__(self, pool: ProcessPoolExecutor, workers: int) -> None:
        self._pool = pool
        self._workers = workers

    def rows_per_s(self, texts: Sequence[Text], plan: Plan, seconds: float) -> float:
        """Rows a second over all workers, each doing whole passes for at least ``seconds``.

        Each starts elsewhere in the plan, so that no two run the same batch at the same moment.
        """
        rows = [ids for _, ids in texts]
        starts = [index * len(plan) // self._workers for index in range(self._workers)]
        plans = [plan[start:] + plan[:start] for start in starts]
        jobs = [self._pool.submit(_rate, rows, each, seconds) for each in plans]
        return sum(job.result() for job in jobs)

    def embed(self, texts: Sequence[Text]) -> list[list[float]]:
        """The bare model's answer to each text alone: the oracle for the answers over HTTP."""
        return self._pool.submit(_embed, [ids for _, ids in texts]).result()


@contextlib.contextmanager
def bare_loop(model: Path, workers: int) -> Iterator[BareLoop]:
    """Starts the workers and ends them. The barrier of a rate gives each worker one job of it."""
    spawn = multiprocessing.get_context("spawn")
    arguments = (str(model), spawn.Barrier(workers))
    with ProcessPoolExecutor(workers, spawn, initializer=_open, initargs=arguments) as pool:
        yield BareLoop(pool, workers)
