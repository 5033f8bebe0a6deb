"""The files that the sections serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.plan import is_hosted
from loadtests.bench.wake import declare, room, thousand
from loadtests.bench.wake.models import WIDTH, table
from loadtests.bench.wake.plan import QUICK, Bench
from loadtests.bench.wake.stages import Hold
from runtime.onnx.inspect import inspect
from runtime.specfile import ServeFile, read

SHIPPED = Path(__file__).parents[3] / "serve_config.yaml"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One that measures nothing."""
    (tmp_path / "forecast.onnx").touch()
    return Bench(QUICK, declare.shipped(SHIPPED), tmp_path / "forecast.onnx", 8000, tmp_path, lambda what: None)


def hosted(file: ServeFile) -> dict[str, bool]:
    """Whether each function begins in the shared host."""
    return {spec.name: is_hosted(file, spec) for spec in file.functions}


@pytest.mark.parametrize("name", ["embed", "forecast"])
def test_functions_are_measured_as_they_ship(bench: Bench, name: str) -> None:
    """Only when they sleep differs, and under whose name: a number for another declaration would be nobody's."""
    file = read(bench.file("x", [bench.like(name, f"{name}-2", autoscaling=declare.sleepy(1.0))]))
    (measured,) = file.functions
    (shipped,) = (spec for spec in read(SHIPPED).functions if spec.name == name)
    assert {**measured.to_args(), "autoscaling": None} == {**shipped.to_args(), "autoscaling": None}
    assert (measured.name, measured.route_prefix) == (f"{name}-2", f"/v2/models/{name}-2")
    assert (measured.autoscaling.min_replicas, measured.autoscaling.downscale_to_zero_delay_s) == (0, 1.0)
    assert hosted(file) == {f"{name}-2": True}


def test_a_deployment_of_its_own_is_declared_so(bench: Bench) -> None:
    """`tier: own` has one from the start, at zero as well."""
    file = read(bench.file("x", [bench.like("embed", tier="own", autoscaling=declare.sleepy(1.0))]))
    assert hosted(file) == {"embed": False}


def test_many_functions_share_twenty_copies(bench: Bench, tmp_path: Path) -> None:
    """Fewer functions, fewer copies; all are in the host."""
    file = read(thousand.declared(bench, tmp_path / "root", 45))
    models = [stage.onnx for spec in file.functions for stage in spec.graph if stage.onnx]
    assert (len(models), len(set(models))) == (45, 20)
    assert sorted(models, key=str)[0] == "model-0.onnx"
    assert all((tmp_path / "root" / str(model)).exists() for model in models)
    assert all(hosted(file).values())


def test_a_large_function_is_a_model_and_what_it_keeps_itself(tmp_path: Path) -> None:
    """Its model has the wanted size and looks up rows; its stage keeps the file's bytes."""
    model = table(tmp_path / "0.onnx", 64_000, seed=0)
    assert model.stat().st_size == pytest.approx(64_000, rel=0.01)
    found = inspect(model)
    assert [(one.name, str(one.datatype)) for one in (*found.inputs, *found.outputs)] == [("place", "INT64"), ("row", "FP32")]
    row = np.full(WIDTH, 0.5, np.float32)
    assert Hold(model)(row) == {"byte": model.read_bytes()[model.stat().st_size // 2]}
    declared: dict[str, Any] = room.declared(0)
    assert [stage.get("onnx") or stage.get("with") for stage in declared["args"]["graph"]] == ["0.onnx", {"file": "0.onnx"}]
