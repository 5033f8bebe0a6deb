"""Whether a quantised model may stand in for its float model: close on every row, and moved by no row's company."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.errors import StoreError

Row = Mapping[str, NDArray[Any]]
"""Inputs of one row without the rows axis, each 1-D; rows may differ in length."""

MIN_COSINE: Final = 0.99
MAX_COMPANY: Final = 1e-5
BATCH: Final = 8
PADDING: Final = 23


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured over all rows.

    Attributes:
        cosine_min: to the float model's answer, of the worst row.
        cosine_mean: of all rows.
        worst_row: its index.
        batch_max: the furthest that any number of an answer moved when its row ran with others.
        padding_max: the same for a row padded with zeros.
    """

    cosine_min: float
    cosine_mean: float
    worst_row: int
    batch_max: float
    padding_max: float

    def __str__(self) -> str:
        return (
            f"cosine to the float model {self.cosine_min:.4f} at worst (row {self.worst_row}), {self.cosine_mean:.4f} on average; "
            f"batch-mates move a number by {self.batch_max:.1e} at most, padding by {self.padding_max:.1e}"
        )

    @property
    def is_accepted(self) -> bool:
        return self.cosine_min >= MIN_COSINE and max(self.batch_max, self.padding_max) <= MAX_COMPANY


def accept(candidate: onnx.ModelProto, reference: onnx.ModelProto, rows: Sequence[Row]) -> Verdict:
    """Compares first outputs, each row alone, in batches of ``BATCH`` neighbours padded to the longest, and padded by ``PADDING``.

    Raises:
        StoreError: below ``MIN_COSINE`` or moved by more than ``MAX_COMPANY``; says the numbers.
    """
    verdict = measure(candidate, reference, rows)
    if not verdict.is_accepted:
        raise StoreError(
            f"the quantised model is refused: {verdict}. At least {MIN_COSINE} and at most {MAX_COMPANY:.0e} are asked for; "
            "change how it is quantised, or serve the float model by name."
        )
    return verdict


def measure(candidate: onnx.ModelProto, reference: onnx.ModelProto, rows: Sequence[Row]) -> Verdict:
    """The numbers of ``accept``, whatever they are."""
    session, exact = _session(candidate), _session(reference)
    wanted = np.concatenate([_run(exact, [row]) for row in rows])
    alone = np.concatenate([_run(session, [row]) for row in rows])
    together = np.concatenate([_run(session, rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)])
    padded = np.concatenate([_run(session, [row], padding=PADDING) for row in rows])
    cosines = (alone * wanted).sum(1) / (np.linalg.norm(alone, axis=1) * np.linalg.norm(wanted, axis=1))
    return Verdict(
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        worst_row=int(cosines.argmin()),
        batch_max=float(np.abs(together - alone).max()),
        padding_max=float(np.abs(padded - alone).max()),
    )


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, rows: Sequence[Row], *, padding: int = 0) -> NDArray[np.float64]:
    """The first output, float [rows, values of a row]."""
    feed = {}
    for name in rows[0]:
        width = max(len(row[name]) for row in rows) + padding
        feed[name] = np.stack([np.pad(row[name], (0, width - len(row[name]))) for row in rows])
    return np.asarray(session.run(None, feed)[0], np.float64).reshape(len(rows), -1)
