"""Kinds of models whose answers company moves on some values alone, and right ones that look like
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from runtime.errors import LoadError
from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.verification.batching_check import verify_batching
from runtime.onnx.prepared_model import VerifiedModels
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session
from tests import onnx_models
from tests.onnx_models import FLOAT, INT64
from tests.problems import expect_values

N = helper.make_node
DRAWN = np.random.default_rng(5)
TABLE = (DRAWN.standard_normal((200, 8)) * np.exp(DRAWN.standard_normal((200, 1)))).astype("f4")
WEIGHTS = DRAWN.standard_normal((8, 3)).astype("f4")
KERNEL, OUT = DRAWN.standard_normal((16, 8, 3)).astype("f4"), DRAWN.standard_normal((16, 3))
IDS, LOGITS = {"x": (INT64, ["n", "words"])}, {"y": (FLOAT, ["n", 3])}
FOUR, ONE = {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])}
SIGNAL, PEAK = {"x": (FLOAT, ["n", "time"])}, {"y": (FLOAT, ["n"])}
EMBEDDED = {"table": TABLE, "w": WEIGHTS}


def dynamic_int8(path: Path) -> None:
    """ONNX Runtime's own: one scale for the whole run."""
    original = path.with_name("original.onnx")
    nodes = [
        N("Gather", ["table", "x"], ["e"]),
        N("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        N("MatMul", ["m", "w"], ["y"]),
    ]
    onnx_models.save(original, nodes, IDS, LOGITS, EMBEDDED)
    quantize_dynamic(str(original), str(path), weight_type=QuantType.QUInt8)


def standardised_pictures(path: Path) -> None:
    """(x - min) / (max - min) of the whole run."""
    nodes = [
        N("Cast", ["x"], ["f"], to=1),
        N("ReduceMin", ["f"], ["low"], keepdims=0),
        N("ReduceMax", ["f"], ["high"], keepdims=0),
        N("Sub", ["f", "low"], ["a"]),
        N("Sub", ["high", "low"], ["d"]),
        N("Div", ["a", "d"], ["y"]),
    ]
    shape = ["n", 8, 8]
    onnx_models.save(path, nodes, {"x": (TensorProto.UINT8, shape)}, {"y": (FLOAT, shape)})


def gate(path: Path) -> None:
    """1000 is added where anything in the run is above 100."""
    nodes = [
        N("ReduceMax", ["x"], ["m"], keepdims=0),
        N("Greater", ["m", "bound"], ["c"]),
        N("Cast", ["c"], ["f"], to=1),
        N("Mul", ["f", "much"], ["g"]),
        N("Add", ["x", "g"], ["y"]),
    ]
    constants = {"bound": np.float32(100), "much": np.float32(1000)}
    onnx_models.save(path, nodes, FOUR, ONE, constants)


def beside_noise(path: Path) -> None:
    """x less the mean of the run, and an output that is random."""
    nodes = [
        N("ReduceMean", ["x"], ["m"], axes=[0]),
        N("Sub", ["x", "m"], ["y"]),
        N("RandomNormalLike", ["x"], ["r"]),
    ]
    onnx_models.save(path, nodes, FOUR, {**ONE, "r": (FLOAT, ["n", 4])})


def under_noise(path: Path) -> None:
    """The mean of the run, and noise upon it: no number of it can be compared."""
    nodes = [
        N("ReduceMean", ["x"], ["m"], axes=[0]),
        N("Sub", ["x", "m"], ["t"]),
        N("RandomNormalLike", ["x"], ["r"]),
        N("Add", ["t", "r"], ["y"]),
    ]
    onnx_models.save(path, nodes, FOUR, ONE)


def in_training(path: Path) -> None:
    """Batch normalisation that was exported in training mode."""
    names = ["scale", "bias", "mean", "variance"]
    nodes = [N("BatchNormalization", ["x", *names], ["y", "m", "v"], training_mode=1)]
    constants = {
        name: np.full(4, value, "f4") for name, value in zip(names, (1, 0, 0, 1), strict=True)
    }
    onnx_models.save(path, nodes, FOUR, ONE, constants)


def rounded_norm(path: Path) -> None:
    """Rounded after it was divided by the length of the whole run."""
    nodes = [
        N("ReduceL2", ["x"], ["l"], keepdims=0),
        N("Max", ["l", "one"], ["m"]),
        N("Div", ["x", "m"], ["t"]),
        N("Round", ["t"], ["y"]),
    ]
    onnx_models.save(path, nodes, FOUR, ONE, {"one": np.float32(1)})


def max_pooling(path: Path) -> None:
    """The largest of embeddings, with nothing that masks."""
    nodes = [
        N("Gather", ["table", "x"], ["e"]),
        N("ReduceMax", ["e"], ["m"], axes=[1], keepdims=0),
        N("MatMul", ["m", "w"], ["y"]),
    ]
    onnx_models.save(path, nodes, IDS, LOGITS, EMBEDDED)


def text_cnn(path: Path) -> None:
    """Convolution over three words, and the largest over time."""
    nodes = [
        N("Gather", ["table", "x"], ["e"]),
        N("Transpose", ["e"], ["t"], perm=[0, 2, 1]),
        N("Conv", ["t", "k"], ["c"], pads=[1, 1], kernel_shape=[3]),
        N("Relu", ["c"], ["a"]),
        N("ReduceMax", ["a"], ["m"], axes=[2], keepdims=0),
        N("MatMul", ["m", "o"], ["y"]),
    ]
    constants = {"table": TABLE, "k": KERNEL, "o": OUT.astype("f4")}
    onnx_models.save(path, nodes, IDS, LOGITS, constants)


def extreme(operator: str) -> Any:
    """The largest or smallest number of a signal: of one that lies below, or above, its padding."""

    def save(path: Path) -> None:
        nodes = [N(operator, ["x"], ["y"], axes=[1], keepdims=0)]
        onnx_models.save(path, nodes, SIGNAL, PEAK)

    return save


def over_padded_length(path: Path) -> None:
    """A sum over the length of the run: right by itself, and not beside a longer row."""
    nodes = [
        N("ReduceSum", ["x", "last"], ["s"], keepdims=0),
        N("Shape", ["x"], ["shape"]),
        N("Gather", ["shape", "last"], ["l"]),
        N("Cast", ["l"], ["f"], to=1),
        N("Div", ["s", "f"], ["y"]),
    ]
    onnx_models.save(path, nodes, SIGNAL, PEAK, {"last": np.array([1], np.int64)})


def checked(
    path: Path, pad: dict[str, float], example: dict[str, Any] | None, most: int = 8
) -> VerifiedModels:
    session = Session(path, CPU_PLAN)
    stage = ModelStage(
        "m",
        session,
        {spec.name: spec.name for spec in session.info.inputs},
        batchable=session.info.batchable,
        pad=pad,
        outputs={},
    )
    verified = VerifiedModels(path.parent)
    verify_batching(stage, example, most=most, verified=verified, of=None)
    return verified


WORDS = {"x": np.array([5, 7, 9, 11])}
NEGATIVE = {"x": np.array([-3, -2, -5], "f4")}


@pytest.mark.parametrize(
    ("save", "pad", "example", "where"),
    [
        (dynamic_int8, {}, None, "rows"),
        (dynamic_int8, {}, WORDS, "rows"),
        (standardised_pictures, {}, None, "rows"),
        (gate, {}, None, "rows"),
        (gate, {}, {"x": np.array([1, 2, 3, 4], "f4")}, "rows"),
        (beside_noise, {}, None, "rows"),
        (under_noise, {}, None, "rows"),
        (in_training, {}, None, "onnx"),
        (rounded_norm, {}, None, "rows"),
        (max_pooling, {"x": 0}, None, "pad"),
        (max_pooling, {"x": 0}, WORDS, "pad"),
        (text_cnn, {"x": 0}, None, "pad"),
        (text_cnn, {"x": 0}, WORDS, "pad"),
        (extreme("ReduceMax"), {"x": 0}, None, "pad"),
        (extreme("ReduceMax"), {"x": 0}, {"x": np.array([3, 2, 5], "f4")}, "pad"),
        (extreme("ReduceMin"), {"x": 0}, NEGATIVE, "pad"),
        (over_padded_length, {"x": 0}, None, "pad"),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path, save, pad, example, where):
    """With what is at fault, whatever the example is."""
    save(tmp_path / "m.onnx")
    with pytest.raises(LoadError) as refused:
        checked(tmp_path / "m.onnx", pad, example)
    assert refused.value.message.startswith(f"stage 'm', {where}: ")


def masked(path: Path) -> None:
    onnx_models.masked_mean(path)


def noise_beside(path: Path) -> None:
    """Its own numbers, and noise."""
    nodes = [N("Abs", ["x"], ["y"]), N("RandomNormalLike", ["x"], ["r"])]
    onnx_models.save(path, nodes, FOUR, {**ONE, "r": (FLOAT, ["n", 4])})


def steep(path: Path) -> None:
    """A softmax of large products, which the order of a sum moves where they are large."""
    nodes = [N("MatMul", ["x", "w"], ["t"]), N("Softmax", ["t"], ["y"])]
    wide = {"x": (FLOAT, ["n", 64])}, {"y": (FLOAT, ["n", 64])}
    weights = np.random.default_rng(1).standard_normal((64, 64)).astype("f4") * 100
    onnx_models.save(path, nodes, *wide, {"w": weights})


def harmless_mean(path: Path) -> None:
    """A mean over the run, times 0."""
    nodes = [
        N("ReduceMean", ["x"], ["m"], axes=[0]),
        N("Clip", ["m", "zero", "zero"], ["z"]),
        N("Add", ["x", "z"], ["y"]),
    ]
    onnx_models.save(path, nodes, FOUR, ONE, {"zero": np.float32(0)})


@pytest.mark.parametrize(
    ("save", "pad", "example"),
    [
        (masked, {"x": 9, "mask": 0}, {"x": np.arange(5, dtype="f4"), "mask": np.ones(5, "f4")}),
        (noise_beside, {}, None),
        (steep, {}, None),
        (harmless_mean, {}, None),
    ],
)
def test_a_right_one_is_not(tmp_path, save, pad, example):
    """And what was found is recorded."""
    save(tmp_path / "m.onnx")
    verified = checked(tmp_path / "m.onnx", pad, example)
    assert any((tmp_path / ".verified").iterdir())
    assert verified is not None


def test_mates_with_which_a_run_fails_are_left_out(tmp_path):
    """Others show that rows mix: places of a table of 4, less their mean."""
    nodes = [
        N("Gather", ["table", "x"], ["e"]),
        N("ReduceMean", ["e"], ["m"], axes=[0]),
        N("Sub", ["e", "m"], ["y"]),
    ]
    table = {"table": np.array([1, 2, 4, 8], "f4")}
    kind = {"x": (INT64, ["n", 2])}, {"y": (FLOAT, ["n", 2])}
    onnx_models.save(tmp_path / "m.onnx", nodes, *kind, table)
    with pytest.raises(LoadError) as refused:
        checked(tmp_path / "m.onnx", {}, {"x": np.array([2, 3])})
    expect_values(refused.value, "'y'", "ReduceMean", "`rows: false`")


def test_what_ran_on_no_row_is_not_recorded(tmp_path, caplog):
    """The log says that it was not tried; a mean over rows is refused by its graph."""
    kind = {"x": (INT64, ["n", 2])}, {"y": (FLOAT, ["n", 2])}
    table = {"table": np.array([], "f4")}  # no place of it is valid
    onnx_models.save(tmp_path / "m.onnx", [N("Gather", ["table", "x"], ["y"])], *kind, table)
    checked(tmp_path / "m.onnx", {}, None)
    expect_values(caplog.text, "m.onnx", "not tried")
    assert not (tmp_path / ".verified").exists()
    nodes = [
        N("Gather", ["table", "x"], ["e"]),
        N("ReduceMean", ["e"], ["m"], axes=[0]),
        N("Sub", ["e", "m"], ["y"]),
    ]
    onnx_models.save(tmp_path / "m.onnx", nodes, *kind, table)
    with pytest.raises(LoadError) as refused:
        checked(tmp_path / "m.onnx", {}, None)
    expect_values(refused.value, "ReduceMean", "cannot be tried", "`example`")


@pytest.mark.parametrize("most", [1, 8])
def test_an_answer_without_its_rows_axis(tmp_path, most):
    """Of one row to a run as well: every call would fail."""
    nodes = [N("Squeeze", ["x"], ["y"])]
    onnx_models.save(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["n", 1])}, PEAK)
    with pytest.raises(LoadError) as refused:
        checked(tmp_path / "m.onnx", {}, None, most)
    assert refused.value.message.startswith("stage 'm', rows: ")
    expect_values(refused.value, "'y'", "`squeeze(-1)`", "`rows: false`")
