"""Preparing models: the same answers from a folder that is rebuilt when anything it depends on
changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from runtime.errors import LoadError
from runtime.onnx import prepared_model
from runtime.onnx.model_file import weights_of
from runtime.onnx.preparation import MADE, list_prepared, prepare_model
from runtime.onnx.prepared_model import FOLDER, MODEL, WEIGHTS, find_prepared
from runtime.onnx.providers import plan_session
from runtime.onnx.session import Session, varied_inputs
from runtime.settings import Settings
from tests import onnx_models
from tests.problems import expect_values

pytestmark = pytest.mark.slow

CPU_PLAN = plan_session(0, None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, models=tmp_path / "models")


def folders(settings: Settings) -> set[str]:
    """Names of the prepared models."""
    return {folder.name for folder in (settings.models / FOLDER).iterdir() if folder.is_dir()} - {
        prepared_model.INDEX
    }


def answers(path: Path, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Of the original and of what loading takes, on rows of our own."""
    original, taken = (
        Session(path, CPU_PLAN),
        Session(path, CPU_PLAN, find_prepared(path, CPU_PLAN, settings.models)),
    )
    assert (original.is_prepared, taken.is_prepared) == (False, True)
    assert taken.info == original.info
    feeds = varied_inputs(original.info.inputs, 5, 7)
    return np.asarray(original.run(feeds)[0]), np.asarray(taken.run(feeds)[0])


def test_a_prepared_model_answers_as_the_original_does(settings: Settings) -> None:
    """Its large weights are in a file next to it, to be mapped."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    assert find_prepared(path, CPU_PLAN, settings.models) is None
    form = prepare_model(path, CPU_PLAN, settings)
    assert form.model is not None
    assert {file.name for file in form.model.parent.iterdir()} == {MODEL, WEIGHTS, MADE}
    assert find_prepared(path, CPU_PLAN, settings.models) == form
    np.testing.assert_array_equal(*answers(path, settings))


def test_a_changed_model_is_prepared_again_and_the_old_form_is_removed(settings: Settings) -> None:
    """Until then the original is used."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    prepare_model(path, CPU_PLAN, settings)
    before = folders(settings)
    onnx_models.perceptron(path, seed=1)
    assert find_prepared(path, CPU_PLAN, settings.models) is None
    prepare_model(path, CPU_PLAN, settings)
    assert len(folders(settings)) == 1
    assert not folders(settings) & before
    np.testing.assert_array_equal(*answers(path, settings))


@pytest.mark.parametrize("what", ["onnxruntime", "options", "processor"])
def test_another_environment_prepares_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A version, an option or a processor that differs makes another folder."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    prepare_model(path, CPU_PLAN, settings)
    before = folders(settings)
    match what:
        case "onnxruntime":
            monkeypatch.setattr(ort, "__version__", "0.0")
        case "options":
            monkeypatch.setattr(
                prepared_model, "OPTIMIZATION", ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
            )
        case _:
            monkeypatch.setattr(prepared_model, "processor_features", lambda: "another")
    assert find_prepared(path, CPU_PLAN, settings.models) is None
    prepare_model(path, CPU_PLAN, settings)
    assert find_prepared(path, CPU_PLAN, settings.models) is not None
    assert not folders(settings) & before


@pytest.mark.parametrize("name", [MODEL, WEIGHTS])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_folder_is_not_used_and_is_made_again(
    settings: Settings, name: str, damage: str
) -> None:
    """A file that is missing or shorter than it was."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    form = prepare_model(path, CPU_PLAN, settings)
    assert form.model is not None
    file = form.model.with_name(name)
    if damage == "cut":
        os.truncate(file, 100)
    else:
        file.unlink()
    assert find_prepared(path, CPU_PLAN, settings.models) is None
    prepare_model(path, CPU_PLAN, settings)
    np.testing.assert_array_equal(*answers(path, settings))


def test_a_cut_entry_is_no_entry(settings: Settings) -> None:
    """As a full disk or another program may leave it."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    prepare_model(path, CPU_PLAN, settings)
    file = prepared_model.entry_file(path, settings.models)
    os.truncate(file, 40)
    assert find_prepared(path, CPU_PLAN, settings.models) is None
    prepare_model(path, CPU_PLAN, settings)
    assert find_prepared(path, CPU_PLAN, settings.models) is not None


def test_leftovers_of_a_killed_process_are_removed(settings: Settings) -> None:
    """Half-written folders are neither used nor kept."""
    left = settings.models / FOLDER / ".partial-x" / "made"
    left.mkdir(parents=True)
    (left / MODEL).write_text("half")
    prepare_model(onnx_models.perceptron(settings.models / "m.onnx"), CPU_PLAN, settings)
    assert not left.exists()


def test_a_form_that_does_not_open_falls_back_to_the_file(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says so: the size is right, the content is not."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    form = prepare_model(path, CPU_PLAN, settings)
    assert form.model is not None
    form.model.write_bytes(b"\xff" * form.model.stat().st_size)
    session = Session(path, CPU_PLAN, find_prepared(path, CPU_PLAN, settings.models))
    assert not session.is_prepared
    assert session.run({"x": np.ones((2, 64), np.float32)})[0].shape == (2, 4)
    expect_values(caplog.text, str(path), "prepared form")


def test_copies_of_a_model_share_one_form(settings: Settings) -> None:
    """It goes when the last of them is gone."""
    paths = [onnx_models.perceptron(settings.models / name) for name in ("a.onnx", "b.onnx")]
    assert (
        len({replace(prepare_model(path, CPU_PLAN, settings), sources=()) for path in paths}) == 1
    )
    assert len(folders(settings)) == 1
    paths[0].unlink()
    other = onnx_models.double(settings.models / "other.onnx")
    prepare_model(other, CPU_PLAN, settings)
    assert find_prepared(paths[1], CPU_PLAN, settings.models) is not None
    paths[1].unlink()
    onnx_models.double(other, ("rows", 4))
    prepare_model(other, CPU_PLAN, settings)
    assert len(folders(settings)) == 1


def test_weights_outside_of_a_model_are_part_of_it(settings: Settings) -> None:
    """A change of them alone prepares the model again."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    onnx.save(
        onnx.load(path),
        str(path),
        save_as_external_data=True,
        location="m.data",
        size_threshold=1024,
    )
    assert weights_of(path) == [settings.models / "m.data"]
    prepare_model(path, CPU_PLAN, settings)
    np.testing.assert_array_equal(*answers(path, settings))
    data = bytearray(path.with_name("m.data").read_bytes())
    data[0:4] = np.float32(7).tobytes()
    path.with_name("m.data").write_bytes(data)
    assert find_prepared(path, CPU_PLAN, settings.models) is None
    prepare_model(path, CPU_PLAN, settings)
    np.testing.assert_array_equal(*answers(path, settings))


def test_a_model_that_lists_its_weights_as_inputs_keeps_its_own(settings: Settings) -> None:
    """As those of the first ONNX versions do: what is folded away is no input of the prepared
    form.
    """
    path = onnx_models.save(
        settings.models / "m.onnx",
        [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Mul", ["x", "c"], ["y"])],
        {
            "x": (onnx_models.FLOAT, ["rows", 2]),
            "a": (onnx_models.FLOAT, [2]),
            "b": (onnx_models.FLOAT, [2]),
        },
        {"y": (onnx_models.FLOAT, ["rows", 2])},
        {"a": np.float32([1, 2]), "b": np.float32([3, 4])},
    )
    model = onnx.load(path)
    model.ir_version = 3
    onnx.save(model, path)
    prepare_model(path, CPU_PLAN, settings)
    np.testing.assert_array_equal(*answers(path, settings))


def test_a_model_whose_answers_are_chance_stays_as_it_is(settings: Settings) -> None:
    """Answers that differ from the original's are refused, and that is remembered."""
    node = helper.make_node("RandomNormalLike", ["x"], ["y"])
    path = onnx_models.save(
        settings.models / "m.onnx",
        [node],
        {"x": (onnx_models.FLOAT, ["rows", 3])},
        {"y": (onnx_models.FLOAT, ["rows", 3])},
    )
    form = prepare_model(path, CPU_PLAN, settings)
    assert form.model is None
    expect_values(form.why, "'y'")
    assert find_prepared(path, CPU_PLAN, settings.models) == form
    assert not Session(path, CPU_PLAN, form).is_prepared


def test_a_model_that_runs_on_nothing_made_up_stays_as_it_is(settings: Settings) -> None:
    """There is nothing to compare answers by."""
    form = prepare_model(
        onnx_models.fails_at_first_run(settings.models / "m.onnx"), CPU_PLAN, settings
    )
    assert form.model is None
    expect_values(form.why, "compared")


def test_a_gpu_takes_the_model_as_it_is(settings: Settings) -> None:
    """Only what the CPU alone runs is prepared."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    assert prepare_model(path, plan_session(1, None), settings).model is None
    assert not (settings.models / FOLDER).exists()


def test_a_file_that_is_no_model_is_refused(settings: Settings) -> None:
    """By name."""
    path = settings.models / "m.onnx"
    path.parent.mkdir()
    path.write_text("no model")
    with pytest.raises(LoadError, match=r"m\.onnx is no ONNX model: it is text"):
        prepare_model(path, CPU_PLAN, settings)


def test_a_model_that_onnx_runtime_refuses_leaves_nothing(settings: Settings) -> None:
    """The folder that was begun for it is gone, and the next model is prepared."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(path))
    with pytest.raises(LoadError, match=r"m\.onnx"):
        prepare_model(path, CPU_PLAN, settings)
    assert not folders(settings)
    other = onnx_models.perceptron(settings.models / "other.onnx")
    assert prepare_model(other, CPU_PLAN, settings).model is not None


def test_a_form_whose_weights_are_gone_is_removed(settings: Settings) -> None:
    """Though the model's own file is there still."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    onnx.save(
        onnx.load(str(path)), str(path), save_as_external_data=True, location="w", size_threshold=0
    )
    prepare_model(path, CPU_PLAN, settings)
    (before,) = folders(settings)
    (settings.models / "w").unlink()
    prepare_model(onnx_models.perceptron(settings.models / "b.onnx", seed=1), CPU_PLAN, settings)
    assert before not in folders(settings)
    assert len(list_prepared(settings.models)) == 1


def test_processes_that_prepare_one_model_at_once_agree(settings: Settings) -> None:
    """One does it, the other finds it done."""
    path = onnx_models.perceptron(settings.models / "m.onnx")
    code = (
        "import sys; from pathlib import Path; from runtime.onnx.providers import plan_session;"
        " from runtime.onnx.preparation import prepare_model; from runtime.settings import"
        " Settings; root = Path(sys.argv[1]); print(prepare_model(root / 'models' / 'm.onnx',"
        " plan_session(0, None), Settings(root, root / 'models')).model)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(settings.root)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    outputs = {child.communicate(timeout=60)[0].strip() for child in children}
    assert [child.returncode for child in children] == [0, 0, 0]
    form = find_prepared(path, CPU_PLAN, settings.models)
    assert form is not None
    assert outputs == {str(form.model)}
    np.testing.assert_array_equal(*answers(path, settings))


@pytest.mark.models
@pytest.mark.parametrize("name", ["minilm/model.int8.onnx", "forecast/model.onnx"])
def test_shipped_models_answer_as_before(models: Path, root: Path, name: str) -> None:
    """Every number the same, alone and together, short and long."""
    path = models / name
    prepare_model(path, CPU_PLAN, Settings(root, models))
    original, taken = (
        Session(path, CPU_PLAN),
        Session(path, CPU_PLAN, find_prepared(path, CPU_PLAN, models)),
    )
    assert taken.is_prepared
    for rows, free in ((1, 5), (3, 40), (8, 17)):
        feeds = varied_inputs(original.info.inputs, rows, free)
        for name, array in feeds.items():
            if name == "input_ids":
                feeds[name] = np.random.default_rng(rows).integers(1000, 30000, array.shape)
        for wanted, found in zip(original.run(feeds), taken.run(feeds), strict=True):
            np.testing.assert_array_equal(wanted, found)
