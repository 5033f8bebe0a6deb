"""Loading a function's parts: prepared models are taken, phases are reported."""

from __future__ import annotations

from pathlib import Path

from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.loader import build_function
from runtime.execution.stages.function_stage import InlineCallees
from runtime.execution.stages.model_stage import ModelStage
from runtime.onnx.preparation import prepare_model
from runtime.onnx.providers import plan_session
from runtime.settings import Settings
from tests import onnx_models


def test_a_model_is_loaded_as_it_was_prepared(tmp_path: Path) -> None:
    """Before, as it is; repr distinguishes them."""
    settings = Settings(tmp_path, tmp_path / "models")
    path = onnx_models.perceptron(tmp_path / "m.onnx")
    spec = FunctionSpec.from_args("m", "/v2/models/m", {"onnx": "m.onnx"})
    for was_prepared in (False, True):
        _, (placed,), phases = build_function(spec, settings, InlineCallees())
        stage = placed.stage
        assert isinstance(stage, ModelStage)
        assert stage.session.is_prepared is was_prepared
        assert ("prepared" in repr(stage.session)) is was_prepared
        assert list(phases) == ["read", "session", "stages"]
        prepare_model(path, plan_session(0, None), settings)
