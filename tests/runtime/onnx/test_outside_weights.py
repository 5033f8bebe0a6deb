"""Weights in a file of their own: a session keeps those that it was opened with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from runtime.errors import LoadError
from runtime.onnx.model_file import find_weights
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session
from tests import onnx_models
from tests.onnx_models import FLOAT, INT64
from tests.problems import expect_values

ROWS = 2048

CHILD = """
import sys, os
from pathlib import Path
import numpy as np
from runtime.onnx.preparation import prepare_model
from runtime.onnx.model_file import find_weights
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session
from runtime.settings import Settings

root, damage, is_prepared = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
weights = root / "w.data"
settings = Settings(root=root, models=root / "models")
prepared = prepare_model(root / "m.onnx", CPU_PLAN, settings) if is_prepared else None
session = Session(root / "m.onnx", CPU_PLAN, prepared)
assert session.is_prepared is is_prepared
if damage == "truncated":
    os.truncate(weights, 0)
else:
    with weights.open("r+b") as file:
        file.write(np.full(weights.stat().st_size // 4, 7, np.float32).tobytes())
(answer,) = session.run({"i": np.array([0, 2047])})
print(np.unique(answer).tolist())
"""


def table(path: Path) -> Path:
    """y [rows, 512]: places of a table of ones, 4 MB in a file of its own."""
    onnx_models.save(
        path,
        [helper.make_node("Gather", ["w", "i"], ["y"])],
        {"i": (INT64, ["n"])},
        {"y": (FLOAT, ["n", 512])},
        {"w": np.ones((ROWS, 512), np.float32)},
    )
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="w.data")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("is_prepared", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_an_export_that_writes_them_anew_changes_no_answer(tmp_path, damage, is_prepared):
    """A mapped file would end the process, or mix new weights into the old graph."""
    table(tmp_path / "m.onnx")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), damage, str(is_prepared)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, "[1.0]\n"), child.stderr[-2000:]


def test_those_that_are_not_there_are_named(tmp_path):
    """With the file."""
    path = table(tmp_path / "m.onnx")
    (tmp_path / "w.data").unlink()
    with pytest.raises(LoadError) as refused:
        Session(path, CPU_PLAN)
    expect_values(refused.value, "w.data")
    assert str(path) in refused.value.message


def test_a_file_outside_of_the_models_folder_is_not_read(tmp_path):
    """Whatever a model names."""
    path = table(tmp_path / "models" / "m.onnx")
    (tmp_path / "models" / "w.data").rename(tmp_path / "w.data")
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../w.data"
    onnx.save(model, str(path))
    with pytest.raises(LoadError) as refused:
        Session(path, CPU_PLAN)
    expect_values(refused.value, "m.onnx")


@pytest.mark.parametrize("location", ["circle", "circle/a", "a" * 300, "a/" * 3000])
def test_a_name_that_no_file_has_is_refused(tmp_path, location):
    """Also one whose links lead in a circle."""
    path = table(tmp_path / "m.onnx")
    (tmp_path / "circle").symlink_to("circle")
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match="keeps weights in"):
        find_weights(path)
