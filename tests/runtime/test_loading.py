"""Loading a function's parts: prepared models are taken, phases are told."""

from __future__ import annotations

from pathlib import Path

from runtime.loading import build
from runtime.onnx.options import plan
from runtime.onnx.prepare import prepare
from runtime.privately import Privately
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.stages import ModelStage
from tests import onnx_models


def test_a_model_is_loaded_as_it_was_prepared(tmp_path: Path) -> None:
    """Before, as it is; repr tells them apart."""
    settings = Settings(tmp_path, tmp_path / "models")
    path = onnx_models.perceptron(tmp_path / "m.onnx")
    spec = FunctionSpec.from_args("m", "/v2/models/m", {"onnx": "m.onnx"})
    for was_prepared in (False, True):
        _, (placed,), phases = build(spec, settings, Privately())
        stage = placed.stage
        assert isinstance(stage, ModelStage)
        assert stage.session.prepared is was_prepared
        assert ("prepared" in repr(stage.session)) is was_prepared
        assert list(phases) == ["read", "session", "stages"]
        prepare(path, plan(0, None), settings)
