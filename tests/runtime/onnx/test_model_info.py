"""Which axes of a model belong together."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runtime.onnx.model_info import build_info, inspect_model
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session
from runtime.types.tensors import Link
from tests import onnx_models


@pytest.mark.parametrize(
    ("inputs", "outputs", "links"),
    [
        ({"x": ["n", "l"]}, {"y": ["n", "l"]}, {"y": (Link(0, "x", 0),)}),
        (
            {"x": ["n", 3, "l"], "m": ["n", "l"]},
            {"y": ["n", "l", 2]},
            {"y": (Link(0, "x", 1), Link(0, "m", 0))},
        ),
        ({"x": ["n", "l"]}, {"y": ["n", "k"], "z": ["n"]}, {}),
        ({"x": ["n", None]}, {"y": ["n", None]}, {}),
        ({"x": ["n", 3]}, {"y": ["n", 3]}, {}),
    ],
)
def test_axes_of_one_name_are_linked(inputs, outputs, links):
    """Free ones behind the rows axis; sizes and nameless ones are not."""
    takes, gives = (
        [(name, "FP32", dims) for name, dims in tensors.items()] for tensors in (inputs, outputs)
    )
    assert build_info(takes, gives).links == links


def test_a_file_and_its_session_have_the_same_interface(tmp_path):
    """Whatever reads it."""
    path = onnx_models.double(tmp_path / "m.onnx", ("n", "l", 2))
    assert inspect_model(path) == Session(path, CPU_PLAN).info
    assert inspect_model(path).links == {"y": (Link(0, "x", 0),)}


def test_serving_imports_no_onnx():
    """Nor transformers: what reads a model without a session imports them."""
    code = "import runtime.http.server, sys; print({'onnx', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
