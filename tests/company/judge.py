"""Whether company moves a model's answers, found with ONNX Runtime alone and nothing of the check
that it judges: other values, other ranges, other sizes of runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from tests.company.made import MadeModel

Row = Mapping[str, np.ndarray]
Answer = list[np.ndarray]

CLOSE: Final = 1e-4
"""Of the largest number of an output, where that is above 1."""

NUDGES: Final = (1e-6, -1e-6, 3e-6)
"""A row whose answer moves as far when its own numbers move so little, relatively, lies on an edge
(a number to be rounded, the larger of two equals), and is judged by no one.
"""

COMPANIES: Final = 60


class Judge:
    """Looks at one model.

    Args:
        made: the model.
        seed: of the values.
    """

    def __init__(self, made: MadeModel, seed: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = ort.InferenceSession(
            made.model, options, providers=["CPUExecutionProvider"]
        )
        self._made = made
        self._draw = np.random.default_rng([seed, 77])
        self._inputs = {value.name: value for value in self._session.get_inputs()}
        self._steady = [True] * len(self._session.get_outputs())

    def find_movement(self, companies: int = COMPANIES) -> str:
        """How an answer moves; empty where none was seen to."""
        for _ in range(companies):
            if why := self._try_company():
                return why
        return ""

    def _try_company(self) -> str:
        size = int(self._draw.integers(2, 9))
        length = int(self._draw.integers(1, 13))
        rows, alone = [], []
        for _ in range(size):
            if self._made.pad:
                length = int(self._draw.integers(1, 13))
            row = self._row(length)
            answers = [self._run([row]), self._run([row])]
            if answers[0] is None or answers[1] is None:
                continue
            for index, pair in enumerate(zip(answers[0][0], answers[1][0], strict=True)):
                self._steady[index] = self._steady[index] and not _moved(*pair).any()
            if not self._steady[0]:  # what is random on purpose is an output of its own
                return "the same row by itself is answered differently each time"
            rows.append(row)
            alone.append(answers[0][0])
        if len(rows) < 2:
            return ""
        found = self._run(rows)
        if found is None:
            return "the run of rows fails that run by themselves"
        for row, wanted, given in zip(rows, alone, found, strict=True):
            for index, (before, after) in enumerate(zip(wanted, given, strict=True)):
                if not self._steady[index]:
                    continue
                moved = _moved(before, after)
                if moved.any() and not self._is_on_edge(row, index, before, moved):
                    return f"{before.ravel()[:6]} alone and {after.ravel()[:6]} in company"
        return ""

    def _is_on_edge(self, row: Row, index: int, before: np.ndarray, moved: np.ndarray) -> bool:
        for nudge in NUDGES:
            near = {
                name: value * value.dtype.type(1 + nudge) if value.dtype.kind == "f" else value
                for name, value in row.items()
            }
            found = self._run([near])
            if found is None:
                return True
            moved = moved & ~_moved(before, found[0][index])
        return not moved.any()

    def _run(self, rows: list[Row]) -> list[Answer] | None:
        feeds = {}
        for name in self._inputs:
            arrays = [row[name] for row in rows]
            if self._made.pad:
                longest = max(len(array) for array in arrays)
                arrays = [
                    np.pad(array, (0, longest - len(array)), constant_values=self._made.pad[name])
                    for array in arrays
                ]
            feeds[name] = np.stack(arrays)
        try:
            outputs = self._session.run(None, feeds)
        except Exception:  # ONNX Runtime's classes have no common base
            return None
        if any(len(output) != len(rows) for output in outputs):
            return None
        answers = []
        for at, row in enumerate(rows):
            answer = [output[at] for output in outputs]
            if self._made.pad:
                answer = [value[: len(row["x"])] for value in answer]
            answers.append(answer)
        return answers

    def _row(self, length: int) -> Row:
        row = {}
        for name, value in self._inputs.items():
            sizes = [size if isinstance(size, int) else length for size in value.shape[1:]]
            row[name] = next(self._values(value.type, sizes))
        return row

    def _values(self, datatype: str, sizes: list[int]) -> Iterator[np.ndarray]:
        draw = self._draw
        if datatype != "tensor(float)":
            most = self._made.vocabulary or int(draw.choice([2, 10, 100, 256, 1000]))
            low, high = sorted(int(at) for at in draw.integers(0, most, 2))
            values: Any = draw.integers(low, high + 1, sizes)
            is_byte = datatype == "tensor(uint8)"
            yield values.astype(np.uint8) if is_byte else values
            return
        scale = 10.0 ** draw.uniform(-2, 4)
        match int(draw.integers(6)):
            case 0:
                values = draw.uniform(0, scale, sizes)
            case 1:
                values = -draw.uniform(0, scale, sizes)
            case 2:
                values = np.full(sizes, draw.uniform(-scale, scale))
            case 3:
                values = draw.uniform(-1, 1, sizes)
                values.flat[int(draw.integers(values.size))] = draw.choice([scale, -scale])
            case 4:
                values = np.round(draw.normal(0, 5, sizes))
            case _:
                values = draw.normal(0, scale, sizes)
        yield np.asarray(values, np.float32)


def _moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where two answers differ by more than their tolerance."""
    if before.shape != after.shape:
        return np.ones(before.shape or 1, bool)
    if before.dtype.kind != "f":
        return np.asarray(before != after)
    largest = float(np.max(np.abs(before), where=np.isfinite(before), initial=1.0))
    with np.errstate(invalid="ignore"):
        same = (np.abs(after - before) <= CLOSE * largest) | (before == after)
    return ~(same | (np.isnan(before) & np.isnan(after)))
