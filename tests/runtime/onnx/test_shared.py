"""A model is opened once in a process."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

from runtime.onnx.options import plan
from runtime.onnx.prepared import Prepared
from runtime.onnx.shared import shared
from tests import onnx_models


def test_a_file_is_opened_once_while_anybody_has_it(tmp_path: Path) -> None:
    """And again once nobody does, or once it has changed."""
    path = onnx_models.double(tmp_path / "m.onnx")
    one = shared(path, plan(0, None), None)
    assert shared(path, plan(0, None), None) is one
    onnx_models.double(path, ("rows", 5))
    other = shared(path, plan(0, None), None)
    assert other is not one
    assert other.info.inputs[0].shape == (-1, 5)
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None
    assert shared(path, plan(0, None), None).info.inputs[0].shape == (-1, 5)


def test_another_plan_is_another_session(tmp_path: Path) -> None:
    """Two functions with other threads do not share."""
    path, one = onnx_models.double(tmp_path / "m.onnx"), plan(0, None)
    first = shared(path, one, None)
    assert shared(path, replace(one, intra_op_num_threads=2), None) is not first


def test_weights_beside_a_model_that_changed_are_another_session(tmp_path: Path) -> None:
    """Though the model's own file did not, and neither state was worth preparing."""
    path, session_plan = onnx_models.double(tmp_path / "m.onnx"), plan(0, None)
    forms = [Prepared(None, why="the original is better", sources=(("weights.bin", (12, changed)),)) for changed in (1, 2)]
    first = shared(path, session_plan, forms[0])
    assert shared(path, session_plan, forms[0]) is first
    assert shared(path, session_plan, forms[1]) is not first
