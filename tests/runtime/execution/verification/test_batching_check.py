"""An answer does not depend on its batch-mates: callers at the same time, through a whole function,
against each by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError
from runtime.execution.function import Function
from runtime.onnx.session import Session
from runtime.settings import Settings
from tests import onnx_models
from tests.onnx_models import FLOAT, INT64, STRING
from tests.problems import expect_values

RAGGED = (FLOAT, ["n", "length"])


def mean(path: Path) -> Path:
    """mean [n] and same [n, length] of x [n, length]: reads its padding."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    return onnx_models.save(path, nodes, {"x": RAGGED}, {"mean": (FLOAT, ["n"]), "same": RAGGED})


def means(path: Path) -> Path:
    """The means of two inputs of lengths of their own."""
    nodes = [
        helper.make_node("ReduceMean", [name], [f"mean_{name}"], axes=[1], keepdims=0)
        for name in "ab"
    ]
    outputs = {f"mean_{name}": (FLOAT, ["n"]) for name in "ab"}
    return onnx_models.save(path, nodes, {"a": RAGGED, "b": (FLOAT, ["n", "width"])}, outputs)


def same_text(path: Path) -> Path:
    """y = x, texts."""
    kind = (STRING, ["n", "length"])
    return onnx_models.save(
        path, [helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind}
    )


def doubled(path: Path, length: str = "length") -> Path:
    """y [n, length] = 2 x: padding lengthens it, and moves no number."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"])]
    return onnx_models.save(
        path, nodes, {"x": RAGGED}, {"y": (FLOAT, ["n", length])}, {"two": np.float32(2)}
    )


def summed(path: Path) -> Path:
    """y [n, 1]: the sums of x along its first axis."""
    shape = (FLOAT, ["n", 1])
    return onnx_models.save(
        path,
        [helper.make_node("CumSum", ["x", "zero"], ["y"])],
        {"x": shape},
        {"y": shape},
        {"zero": np.int64(0)},
    )


def counted(path: Path) -> Path:
    """Where x is not 0: as many rows as there are such places."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Transpose", ["at"], ["y"]),
    ]
    return onnx_models.save(path, nodes, {"x": (FLOAT, ["n", 2])}, {"y": (INT64, ["n", "m"])})


def scaled(path: Path) -> Path:
    """y = a * x, of numbers a [n] that belong to the last axis of x [n, m], and not to its
    first.
    """
    nodes = [helper.make_node("Mul", ["x", "a"], ["y"])]
    return onnx_models.save(
        path, nodes, {"x": (FLOAT, ["n", 5]), "a": (FLOAT, ["n"])}, {"y": (FLOAT, ["n", 5])}
    )


def scattered(path: Path) -> Path:
    """y = x, with the smaller of it and u at the row i: another row's place in a run."""
    nodes = [helper.make_node("ScatterND", ["x", "i", "u"], ["y"], reduction="min")]
    inputs = {"x": (FLOAT, ["n"]), "i": (INT64, ["n", 1]), "u": (FLOAT, ["n"])}
    return onnx_models.save(path, nodes, inputs, {"y": (FLOAT, ["n"])})


def drawn(path: Path) -> Path:
    """x and noise, which is another each time."""
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
    ]
    return onnx_models.save(path, nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])})


def answers(
    root: Path, rows: Sequence[dict[str, Any]], stage: dict[str, Any], **args: Any
) -> list[list[dict[str, Any]]]:
    """The rows by themselves one after the other, at the same time, and in one call; the model is
    `m.onnx`.
    """
    spec = FunctionSpec.from_args(
        "f", "/f", {"graph": [{"stage": "m", "onnx": "m.onnx", **stage}], **args}
    )

    async def main() -> list[list[dict[str, Any]]]:
        function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(root)}))
        try:
            alone = [(await function.call_row(row))[0] for row in rows]
            together = [answer for answer, _ in await asyncio.gather(*map(function.call_row, rows))]
            called, _ = await function.call_rows(rows)
            return [alone, together, called]  # type: ignore[list-item]  # none is an error, as comparing shows
        finally:
            await function.close(5)

    return asyncio.run(main())


def agree(found: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Numbers within 1e-4, shapes equal."""
    alone, *others = found
    for other in others:
        for wanted, given in zip(alone, other, strict=True):
            for name, value in wanted.items():
                assert np.shape(given[name]) == np.shape(value)
                if np.asarray(value).dtype.kind == "f":
                    np.testing.assert_allclose(given[name], value, atol=1e-4)
                else:
                    assert np.asarray(given[name]).tolist() == np.asarray(value).tolist()


LENGTHS = (30, 32, 4, 30, 31, 5, 4)


@pytest.mark.parametrize("batching", [{}, {"run_cost": 1000, "max_padding": 1.0}])
@pytest.mark.parametrize(
    ("model", "row"),
    [
        (mean, lambda n: {"x": [float(n)] * n}),
        (means, lambda n: {"a": [1.0] * 4, "b": [2.0] * n}),
        (same_text, lambda n: {"x": [str(i) for i in range(n)]}),
        (doubled, lambda n: {"x": [1.0] * n}),
    ],
)
def test_by_default_rows_of_unlike_shapes_do_not_meet(tmp_path, model, row, batching):
    """Whatever the limits of padding are: what is not named in `pad` is not padded."""
    model(tmp_path / "m.onnx")
    agree(answers(tmp_path, [row(n) for n in LENGTHS], {}, batching=batching))


PAD, ROWS = "stage 'm', pad: ", "stage 'm', rows: "
"""Where a message says that its model is at fault."""

PADS: dict[str, Any] = {"run_cost": 1000, "max_padding": 1.0}


def test_rows_that_are_padded_share_a_run_and_are_cut_back(tmp_path, monkeypatch):
    """Seven lengths in one run; each row's output is as long as the row."""
    doubled(tmp_path / "m.onnx")
    sizes: list[tuple[int, ...]] = []
    run = Session.run

    def seen(self: Session, feeds: Any) -> Any:
        sizes.append(feeds["x"].shape)
        return run(self, feeds)

    monkeypatch.setattr(Session, "run", seen)
    rows = [{"x": np.arange(n, dtype=np.float32).tolist()} for n in LENGTHS]
    found = answers(tmp_path, rows, {"pad": {"x": -1}}, batching=PADS, resources={"num_cpus": 1})
    assert [len(answer["y"]) for answer in found[2]] == list(LENGTHS)
    agree(found)
    assert (len(LENGTHS), max(LENGTHS)) in sizes


def test_a_mask_hides_padding(tmp_path):
    """Two inputs that are padded alike."""
    onnx_models.masked_mean(tmp_path / "m.onnx")
    rows = [{"x": np.arange(n, dtype=np.float32).tolist(), "mask": [1.0] * n} for n in LENGTHS]
    agree(answers(tmp_path, rows, {"pad": {"x": 9, "mask": 0}}, batching=PADS))


@pytest.mark.parametrize(
    ("model", "stage", "example", "where", "values"),
    [
        (mean, {"pad": {"x": 0}}, None, PAD, ["'mean'", "'x' [16] to [32]", "`pad`"]),
        (
            mean,
            {"pad": {"x": 0}},
            {"x": [1.0, 1.0, 1.0]},
            PAD,
            ["'mean'", "1", "0.5", "'x' [3] to [6]", "`pad`"],
        ),
        (
            means,
            {"pad": {"a": 0, "b": 0}},
            {"a": [1.0], "b": [1.0]},
            PAD,
            ["'mean_a'", "1", "0.5", "'a' [1] to [2]", "'b' [1] to [2]"],
        ),
        (
            lambda path: doubled(path, "other"),
            {"pad": {"x": 0}},
            None,
            PAD,
            ["'y'", "[16]", "[32]"],
        ),
        (summed, {}, None, ROWS, ["'y'", "number 2 of 2"]),
        (summed, {}, {"x": [2.0]}, ROWS, ["'y'", "3", "5", "number 2 of 2"]),
        (
            scaled,
            {},
            {"x": [1.0] * 5, "a": 2.0},
            ROWS,
            ["2 rows", "fails"],
        ),
        (scattered, {}, {"x": 1.0, "i": [0], "u": 5.0}, ROWS, ["'y'", "ScatterND"]),
        (
            counted,
            {},
            None,
            ROWS,
            ["m.onnx", "1 rows", "2 of 'y'", "rows axis"],
        ),
    ],
    ids=[
        "padding",
        "padding of the example",
        "two inputs",
        "an axis of another name",
        "sums",
        "sums of the example",
        "an axis beside another",
        "a place of another row",
        "not as many rows",
    ],
)
def test_a_model_whose_answers_batching_moves_is_not_loaded(
    tmp_path, model, stage, example, where, values
):
    """With the numbers, and what to declare instead."""
    model(tmp_path / "m.onnx")
    with pytest.raises(LoadError) as refused:
        answers(tmp_path, [], stage, **({} if example is None else {"example": example}))
    assert refused.value.message.startswith(where)
    expect_values(refused.value, *values)
    assert ("`rows: false`" in refused.value.message) is (where == ROWS)


def test_a_model_without_a_rows_axis_takes_its_tensors_as_they_are(tmp_path):
    """`rows: false`: each call is a run, whatever its first axis is."""
    summed(tmp_path / "m.onnx")
    rows = [{"x": [[1.0]] * n} for n in (40, 3, 40)]
    found = answers(tmp_path, rows, {"rows": False})
    agree(found)
    assert np.ravel(found[0][0]["y"]).tolist() == list(range(1, 41))


def test_what_a_model_draws_says_nothing_of_its_batch_mates(tmp_path):
    """It is loaded: the same row alone differs from itself."""
    drawn(tmp_path / "m.onnx")
    assert answers(tmp_path, [], {}) == [[], [], []]


def test_what_was_tried_of_a_file_is_not_tried_again(tmp_path, monkeypatch):
    """Until the file is another, or the declaration."""
    tries: list[None] = []
    try_run = Session.try_run

    def seen(self: Session, feeds: Any) -> Any:
        tries.append(None)
        return try_run(self, feeds)

    monkeypatch.setattr(Session, "try_run", seen)

    def count(**stage: Any) -> int:
        tries.clear()
        answers(tmp_path, [], stage)
        return len(tries)

    doubled(tmp_path / "m.onnx")
    assert count() > 0
    assert count() == 0
    assert count(pad={"x": 0}) > 0
    assert count(pad={"x": 0}) == count() == 0
    doubled(tmp_path / "m.onnx", length="longer")
    assert count() > 0
