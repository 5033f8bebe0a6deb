"""What batches where, and what is declared of it in vain; of assemblies, nothing is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.assembly import Assembly, assemble
from runtime.graph.lint.batching_report import describe_batching, find_ineffective_batching
from runtime.graph.resolved_stages import ResolvedModel
from runtime.onnx.model_info import inspect_model
from runtime.settings import Settings
from tests import onnx_models
from wakeful import Rows

HERE = __name__


def one(n: int) -> int: ...
def every(one: Rows[int]) -> Rows[int]: ...
def behind(mean: Rows[NDArray[np.float32]]) -> Rows[float]: ...
def last(mean: NDArray[np.float32]) -> float: ...


ONE, EVERY = ({"stage": name, "python": f"{HERE}:{name}"} for name in ("one", "every"))
MODEL = {"stage": "m", "onnx": "mean.onnx"}
PADDED = {**MODEL, "pad": {"x": 0, "mask": 0}}
FIXED = {"stage": "m", "onnx": "double.onnx"}


def assembled(root: Path, *graph: dict[str, Any], **args: Any) -> Assembly:
    """As `check` has it."""
    onnx_models.masked_mean(root / "mean.onnx")
    onnx_models.double(root / "double.onnx")
    spec = FunctionSpec.from_args("f", "/f", {"graph": list(graph), **args})
    found = assemble(
        spec,
        Settings.read({"WAKEFUL_ROOT": str(root)}),
        lambda path: ResolvedModel(path, inspect_model(path)),
    )
    assert not found.issues
    return found


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (
            [ONE, EVERY],
            {
                "one": "a row at a time, up to 8 taken at once",
                "every": "all rows at once, up to 5, after 2 s at most",
            },
        ),
        (
            [{**ONE, "threads": 4}, {**EVERY, "threads": 2}],
            {
                "one": "a row at a time, up to 8 taken at once, in 4 threads",
                "every": "all rows at once, up to 5, after 2 s at most, in 2 threads",
            },
        ),
        ([FIXED], {"m": "up to 5 rows a run, after 2 s at most"}),
        (
            [{**FIXED, "rows": False}],
            {"m": "each row a run of its own, since the model has no rows axis"},
        ),
        ([MODEL], {"m": "up to 5 rows a run, of identical shapes in x, mask, after 2 s at most"}),
        (
            [PADDED],
            {
                "m": (
                    "up to 5 rows a run, padded in x, mask (run_cost 8, max_padding 0.25), after 2"
                    " s at most"
                )
            },
        ),
        (
            [MODEL, {"stage": "l", "python": f"{HERE}:last"}],
            {"m, l": "up to 5 rows a run, of identical shapes in x, mask, after 2 s at most"},
        ),
        (
            [MODEL, {"stage": "b", "python": f"{HERE}:behind"}],
            {
                "m": "up to 5 rows a run, of identical shapes in x, mask, after 2 s at most",
                "b": "all rows at once, up to 5, after 2 s at most",
            },
        ),
    ],
)
def test_batches_are_described_in_words(tmp_path, graph, expected):
    """By the stages that run on it."""
    found = describe_batching(
        assembled(tmp_path, *graph, batching={"max_batch_size": 5, "batch_wait_timeout_s": 2.0})
    )
    assert {", ".join(each.stages): each.by for each in found} == expected


@pytest.mark.parametrize(
    ("graph", "batching", "keys"),
    [
        ([ONE], {}, []),
        ([ONE], {"max_batch_size": 5}, ["batching"]),
        ([{**FIXED, "rows": False}], {"max_batch_size": 5}, ["batching"]),
        ([ONE, EVERY], {"max_batch_size": 5}, []),
        ([FIXED], {"max_batch_size": 5}, []),
        (
            [MODEL],
            {"run_cost": 5, "max_padding": 0.5, "max_batch_cost": 9},
            ["batching.run_cost", "batching.max_padding"],
        ),
        ([PADDED], {"run_cost": 5, "max_padding": 0.5, "max_batch_cost": 9}, []),
        ([FIXED], {"max_batch_cost": 9}, ["batching.max_batch_cost"]),
        (
            [{**ONE, "deployment": {"batching": {"max_batch_size": 5}}}, EVERY],
            {},
            ["deployment.batching"],
        ),
        ([ONE, {**EVERY, "deployment": {"batching": {"max_batch_size": 5}}}], {}, []),
    ],
)
def test_batching_that_has_no_effect_is_warned_of(tmp_path, graph, batching, keys):
    """By the key that may go."""
    args = {"batching": batching} if batching else {}
    assert [
        fault.key for fault in find_ineffective_batching(assembled(tmp_path, *graph, **args))
    ] == keys
