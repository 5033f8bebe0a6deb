"""A model is opened once in a process."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

from runtime.onnx.prepared_model import PreparedModel
from runtime.onnx.providers import plan_session
from runtime.onnx.session import open_shared
from tests import onnx_models


def test_a_file_is_opened_once_while_a_function_holds_it(tmp_path: Path) -> None:
    """It is opened again once no function holds it, or once it has changed."""
    path = onnx_models.double(tmp_path / "m.onnx")
    one = open_shared(path, plan_session(0, None), None)
    assert open_shared(path, plan_session(0, None), None) is one
    onnx_models.double(path, ("rows", 5))
    other = open_shared(path, plan_session(0, None), None)
    assert other is not one
    assert other.info.inputs[0].shape == (-1, 5)
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None
    assert open_shared(path, plan_session(0, None), None).info.inputs[0].shape == (-1, 5)


def test_another_plan_is_another_session(tmp_path: Path) -> None:
    """Two functions with other threads do not share."""
    path, one = onnx_models.double(tmp_path / "m.onnx"), plan_session(0, None)
    first = open_shared(path, one, None)
    assert open_shared(path, replace(one, intra_op_num_threads=2), None) is not first


def test_changed_weights_next_to_a_model_are_another_session(tmp_path: Path) -> None:
    """Though the model's own file did not, and neither state was worth preparing."""
    path, session_plan = onnx_models.double(tmp_path / "m.onnx"), plan_session(0, None)
    forms = [
        PreparedModel(None, why="the original is better", sources=(("weights.bin", (12, changed)),))
        for changed in (1, 2)
    ]
    first = open_shared(path, session_plan, forms[0])
    assert open_shared(path, session_plan, forms[0]) is first
    assert open_shared(path, session_plan, forms[1]) is not first
