"""Decides whether a quantised model may replace its float model: each row's answer must be close to
the float model's, and must not depend on the other rows of its batch.

``measure_ranges`` observes the ranges of activations that quantisation is calibrated with;
``run_unbatched`` runs a model once as it is, to compare its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from runtime.errors import StoreError

QualityRow = Mapping[str, NDArray[Any]]
"""Inputs of one row without the rows axis, each 1-D; rows may differ in length."""

AnswerReader = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""What a row's answer is made of, 1-D: of its first output, [values], or [tokens, values] of the
row's own tokens.
"""

TEXTS: Final = Path(__file__).with_name("texts.txt")
"""Texts that models of language are compared on, one a line."""

MIN_COSINE: Final = 0.99
MAX_BATCH_EFFECT: Final = 1e-5
BATCH: Final = 8
PADDING: Final = 23


@dataclass(frozen=True, slots=True)
class QualityVerdict:
    """What was measured over all rows.

    Attributes:
        cosine_min: cosine to the float model's answer, of the worst row.
        cosine_mean: of all rows.
        worst_row: its index.
        batch_max: the most that any number of an answer moved when its row ran with others.
        padding_max: the same for a row padded with zeros.
    """

    cosine_min: float
    cosine_mean: float
    worst_row: int
    batch_max: float
    padding_max: float

    def __str__(self) -> str:
        return (
            f"cosine to the float model {self.cosine_min:.4f} at worst (row {self.worst_row}),"
            f" {self.cosine_mean:.4f} on average; batch-mates move a number by {self.batch_max:.1e}"
            f" at most, padding by {self.padding_max:.1e}"
        )

    @property
    def is_accepted(self) -> bool:
        """Whether the quantised model may be served."""
        return (
            self.cosine_min >= MIN_COSINE
            and self.batch_max <= MAX_BATCH_EFFECT
            and self.padding_max <= MAX_BATCH_EFFECT
        )


def accept(
    candidate: onnx.ModelProto,
    reference: onnx.ModelProto,
    rows: Sequence[QualityRow],
    answer: AnswerReader = np.ravel,
) -> QualityVerdict:
    """Compare first outputs, each row alone, in batches of ``BATCH`` neighbours padded to the
    longest, and padded by ``PADDING``.

    Args:
        answer: what of an output is compared.

    Raises:
        StoreError: below ``MIN_COSINE`` or moved by more than ``MAX_BATCH_EFFECT``; with the
        numbers.
    """
    verdict = measure(candidate, reference, rows, answer)
    if not verdict.is_accepted:
        raise StoreError(
            f"the quantised model is refused: {verdict}. At least {MIN_COSINE} and at most"
            f" {MAX_BATCH_EFFECT:.0e} are asked for; change how it is quantised, or serve the float"
            " model by name."
        )
    return verdict


def measure(
    candidate: onnx.ModelProto,
    reference: onnx.ModelProto,
    rows: Sequence[QualityRow],
    answer: AnswerReader = np.ravel,
) -> QualityVerdict:
    """The numbers of ``accept``, whatever they are."""
    session, exact = _session(candidate), _session(reference)
    wanted = [one for row in rows for one in _run(exact, [row], answer)]
    alone = [one for row in rows for one in _run(session, [row], answer)]
    starts = range(0, len(rows), BATCH)
    together = [one for at in starts for one in _run(session, rows[at : at + BATCH], answer)]
    padded = [one for row in rows for one in _run(session, [row], answer, padding=PADDING)]
    cosines = np.array(
        [
            one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
            for one, other in zip(alone, wanted, strict=True)
        ]
    )
    return QualityVerdict(
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        worst_row=int(cosines.argmin()),
        batch_max=_largest_difference(together, alone),
        padding_max=_largest_difference(padded, alone),
    )


def _largest_difference(
    some: Sequence[NDArray[np.float64]], others: Sequence[NDArray[np.float64]]
) -> float:
    pairs = zip(some, others, strict=True)
    # numpy's maximum, which is NaN if any is: Python's may pass it over
    return float(np.max([np.abs(one - other).max() for one, other in pairs]))


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _run(
    session: ort.InferenceSession,
    rows: Sequence[QualityRow],
    answer: AnswerReader,
    *,
    padding: int = 0,
) -> list[NDArray[np.float64]]:
    """The answer of each row, 1-D, from the first output."""
    feed = {}
    for name in rows[0]:
        width = max(len(row[name]) for row in rows) + padding
        feed[name] = np.stack([np.pad(row[name], (0, width - len(row[name]))) for row in rows])
    output = np.asarray(session.run(None, feed)[0], np.float64)
    if output.ndim < 3:
        return [answer(values) for values in output]
    lengths = [len(next(iter(row.values()))) for row in rows]
    return [answer(values[:length]) for values, length in zip(output, lengths, strict=True)]


ValueRange = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Least and greatest value of each channel, float32 [channels]."""


def normalized(model: onnx.ModelProto) -> list[str]:
    """Outputs of LayerNormalizations that a MatMul reads.

    Ranges by channel suit them: bounded by the square root of their width whatever comes
    in, and in practice hardly wider on any text than on random tokens.
    """
    read = {node.input[0] for node in model.graph.node if node.op_type == "MatMul"}
    return [
        node.output[0]
        for node in model.graph.node
        if node.op_type == "LayerNormalization" and node.output[0] in read
    ]


def measure_ranges(
    model: onnx.ModelProto, names: Iterable[str], feeds: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, ValueRange]:
    """Run the model on every feed and keep, for each named value [..., channels], the extremes of
    its channels.

    Args:
        model: with its weights inside, at most 2 GB; not changed.
        feeds: inputs without padding, since what a model computes for padding counts too.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(names)
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    found: dict[str, ValueRange] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            low, high = rows.min(0), rows.max(0)
            if name in found:
                low, high = np.minimum(low, found[name][0]), np.maximum(high, found[name][1])
            found[name] = low, high
    return found


Array = NDArray[Any]


def run_unbatched(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name, of one thread of the CPU. Raises what ONNX Runtime raises, a class of
    its own for each status.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(
        zip(
            [output.name for output in session.get_outputs()],
            session.run(None, dict(feeds)),
            strict=True,
        )
    )
