from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import MissingInput, RequestError, UnknownInput, WrongDatatype, WrongShape
from runtime.protocol.messages import InferRequest, RequestedOutput, check_inputs, check_outputs
from runtime.types.tensors import TensorSpec
from tests.problems import expect_values

SPECS = [TensorSpec("image", "FP32", (-1, 3, 4)), TensorSpec("label", "BYTES", (-1,))]
IMAGE = np.zeros((2, 3, 4), np.float32)
LABEL = np.array(["a", "b"], object)


def request(**inputs: np.ndarray) -> InferRequest:
    return InferRequest("", inputs, (), False, {})


def test_inputs_that_fit_pass_with_their_row_count() -> None:
    """A fitting request has as many rows as its first dimension, or one when that is not rows."""
    assert check_inputs(request(image=IMAGE, label=LABEL), SPECS, rows=True) == 2
    assert check_inputs(request(label=LABEL, image=IMAGE), SPECS) == 1
    assert check_inputs(request(image=IMAGE), SPECS, frozenset({"label"}), rows=True) == 2
    assert check_inputs(request(), SPECS, frozenset({"label", "image"}), rows=True) == 1


@pytest.mark.parametrize(
    ("inputs", "error", "where", "values"),
    [
        ({"image": IMAGE}, MissingInput, "inputs", ["'label'"]),
        ({"imag": IMAGE, "label": LABEL}, UnknownInput, "inputs[0].name", ["'imag'", "'image'?"]),
        (
            {"image": IMAGE, "label": LABEL, "zzz": LABEL},
            UnknownInput,
            "inputs[2].name",
            ["'zzz'", "'image', 'label'"],
        ),
        (
            {"image": IMAGE.astype("f8"), "label": LABEL},
            WrongDatatype,
            "inputs[0].datatype",
            ["'image'", "FP64 [2, 3, 4]", "FP32"],
        ),
        (
            {"label": IMAGE, "image": IMAGE},
            WrongDatatype,
            "inputs[0].datatype",
            ["'label'", "BYTES [-1]"],
        ),
        (
            {"image": IMAGE[0], "label": LABEL},
            WrongShape,
            "inputs[0].shape",
            ["'image'", "2 dimensions", "3"],
        ),
        (
            {"label": LABEL, "image": IMAGE[:, :, :3]},
            WrongShape,
            "inputs[1].shape[2]",
            ["'image'", "dimension 2", "3", "4"],
        ),
        (
            {"image": IMAGE, "label": LABEL[:1]},
            WrongShape,
            "inputs[1].shape[0]",
            ["'label'", "1 rows", "'image'", "2"],
        ),
        ({"image": IMAGE[:0], "label": LABEL[:0]}, WrongShape, "inputs[0].shape[0]", ["no rows"]),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    inputs: dict[str, np.ndarray], error: type[RequestError], where: str, values: list[str]
) -> None:
    """Missing, unknown and unfitting inputs are refused with what was sent and what is taken
    (reliability cases 16 and 17).
    """
    found = refused(inputs)
    assert (type(found), found.where) == (error, where)
    expect_values(found.message, *values)


def refused(inputs: dict[str, np.ndarray]) -> RequestError:
    """The error of inputs that do not fit."""
    with pytest.raises(RequestError) as caught:
        check_inputs(request(**inputs), SPECS, rows=True)
    return caught.value


def test_requested_outputs_must_exist() -> None:
    """An unknown output is refused before anything is computed."""
    infer_request = InferRequest(
        "", {}, (RequestedOutput("a", True), RequestedOutput("embeding", True)), False, {}
    )
    check_outputs(infer_request, ["a", "embeding"])
    with pytest.raises(UnknownInput, match="'embedding'") as caught:
        check_outputs(infer_request, ["a", "embedding"])
    assert caught.value.where == "outputs[1].name"
