"""A function's face in the Open Inference Protocol: its tensors, and how they become rows and rows become them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime import convert
from runtime.admission import refuse_too_many
from runtime.batching.rows import Row
from runtime.fields import RowValidator
from runtime.graph import Port
from runtime.values import ValueType
from runtime.wire.checks import check_inputs
from runtime.wire.messages import InferRequest, InferResponse


class OpenInference:
    """Nothing here waits or computes; it may be used in any thread.

    Args:
        name: the function's.
        fields: what a row takes, by name.
        answer: what a row is answered with, by name.
        validator: checks a row.
        has_rows: whether the first axis of every tensor is the rows.

    Attributes:
        inputs, outputs: the tensors.
    """

    def __init__(
        self, name: str, fields: Mapping[str, Port], answer: Mapping[str, ValueType], validator: RowValidator, *, has_rows: bool
    ) -> None:
        self.name = name
        self.has_rows = has_rows
        self.inputs = tuple(port.type.tensor(field, rows=has_rows) for field, port in fields.items())
        self.outputs = tuple(value.tensor(field, rows=has_rows) for field, value in answer.items())
        self._answer = answer
        self._validator = validator
        self._optional = frozenset(field for field, port in fields.items() if not port.is_required)
        self._reads = {field: convert.reader(port.type) for field, port in fields.items()}
        self._checked_by_wire = all(port.type.container == "array" for port in fields.values())

    def metadata(self) -> dict[str, Any]:
        """The v2 model metadata response."""
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [tensor.metadata() for tensor in self.inputs],
            "outputs": [tensor.metadata() for tensor in self.outputs],
        }

    def rows(self, request: InferRequest, max_rows: int) -> list[dict[str, Any]]:
        """The validated rows of a request.

        Raises:
            RequestError: inputs that are not this function's.
            TooLarge: more than ``max_rows``.
        """
        count = check_inputs(request, self.inputs, self._optional, rows=self.has_rows)
        refuse_too_many(count, max_rows)
        columns = {name: self._reads[name](tensor, name) for name, tensor in request.inputs.items()}
        rows = [columns]
        if self.has_rows and columns:
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        if not self._checked_by_wire:
            rows = [self._validator.row(row, f"row {index}" if count != 1 else "") for index, row in enumerate(rows)]
        return rows

    def response(self, request: InferRequest, rows: Sequence[Row]) -> InferResponse:
        """The outputs that a request asks for.

        Raises:
            WakefulError: the first row's that failed: tensors have no place for the error of one row.
        """
        for row in rows:
            if row.error is not None:
                raise row.error
        wanted = {output.name for output in request.outputs} or set(self._answer)
        outputs = {
            spec.name: convert.column([row.values[spec.name] for row in rows], spec, value, rows=self.has_rows)
            for spec, value in zip(self.outputs, self._answer.values(), strict=True)
            if spec.name in wanted
        }
        return InferResponse(self.name, request.id, outputs, {})
