"""First runs: a model at one row and at the largest batch that it may get, and not beyond."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import Shape
from runtime.function import Function
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.stages import ModelStage
from tests import onnx_models

HERE = __name__


class Masked(TypedDict):
    """A ragged row for the model."""

    x: Annotated[NDArray[np.float32], Shape(-1)]
    mask: Annotated[NDArray[np.float32], Shape(-1)]


def numbers(values: list[float]) -> Masked:
    """A row of as many elements as it has numbers."""
    return {"x": np.array(values, np.float32), "mask": np.ones(len(values), np.float32)}


def parts(values: list[float]) -> list[list[float]]:
    """Each number by itself."""
    return [[value] for value in values]


@pytest.mark.parametrize(
    ("batching", "sizes"),
    [
        ({"max_batch_size": 8}, [1, 8]),
        ({"max_batch_size": 1}, [1]),
        ({"max_batch_size": 8, "max_batch_cost": 9}, [1, 3]),
        ({"max_batch_size": 8, "max_batch_cost": 2}, [1]),
    ],
    ids=["by rows", "of one", "by elements", "no two fit"],
)
def test_the_largest_batch_is_what_the_declaration_allows(tmp_path, monkeypatch, batching, sizes):
    """Three elements a row: ``max_batch_cost`` bounds it as it does later."""
    graph = [{"stage": "numbers", "python": f"{HERE}:numbers"}, {"stage": "model", "onnx": "m.onnx"}]
    assert _runs(tmp_path, monkeypatch, graph, batching) == sizes


def test_what_a_row_becomes_is_run_one_by_one(tmp_path, monkeypatch):
    """Three elements of a fanned-out value, and then a full batch of one of them, however many the row has."""
    graph = [
        {"stage": "parts", "python": f"{HERE}:parts"},
        {"stage": "numbers", "python": f"{HERE}:numbers", "each": "parts", "inputs": {"values": "parts"}},
        {"stage": "model", "onnx": "m.onnx", "each": "parts"},
    ]
    assert _runs(tmp_path, monkeypatch, graph, {"max_batch_size": 2}) == [1, 1, 1, 2]


def _runs(root, monkeypatch, graph: list[dict[str, Any]], batching: dict[str, Any]) -> list[int]:
    """Rows of each run of the model while a function with an example of three numbers is loaded."""
    sizes: list[int] = []
    run = ModelStage.run

    def seen(self: ModelStage, rows: Any) -> Any:
        sizes.append(len(rows))
        return run(self, rows)

    onnx_models.masked_mean(root / "m.onnx")
    monkeypatch.setattr(ModelStage, "run", seen)
    spec = FunctionSpec.from_args("f", "/v2/models/f", {"graph": graph, "batching": batching, "example": {"values": [1, 2, 3]}})

    async def main() -> None:
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}))
        await function.close(5)

    asyncio.run(main())
    return sizes
