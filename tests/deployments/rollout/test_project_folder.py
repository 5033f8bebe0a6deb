"""What a project's folder hides, and what an installation lacks for it, is told with the fix."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from deployments.rollout.project_folder import (
    doubled_modules,
    missing_build,
    shadowing_modules,
    shadowing_packages,
)
from runtime.declaration import config_file
from tests.problems import expect_values


def test_a_module_that_hides_one_of_the_standard_library_is_refused(tmp_path):
    """Ray's processes import from the file's folder first; numbers.py next to it would keep them
    from starting.
    """
    for name in ("numbers.py", "stages.py", "types.txt"):
        (tmp_path / name).touch()
    (problem,) = shadowing_modules([tmp_path])
    assert problem.file == str(tmp_path / "numbers.py")


@pytest.mark.parametrize(
    ("files", "hidden"),
    [
        ((), []),
        (("runtime/__init__.py",), ["runtime/__init__.py"]),
        (("deployments/__init__.py", "wakeful.py"), ["wakeful.py", "deployments/__init__.py"]),
        (("deployments/cluster.yaml", "deployments/apply.py"), []),  # a folder, no package
        (("app/runtime/__init__.py", "runtimes.py"), []),
    ],
)
def test_a_package_with_the_name_of_one_of_ours(files, hidden, tmp_path):
    """Is named, in whichever of the folders it lies."""
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    problems = shadowing_packages([tmp_path / "none", tmp_path])
    assert [problem.file for problem in problems] == [str(tmp_path / name) for name in hidden]


def test_our_own_packages_hide_nothing(root):
    """A clone is the root of its shipped functions."""
    assert (root / "runtime" / "__init__.py").exists()
    assert shadowing_packages([root]) == []
    assert doubled_modules([root]) == []


def test_a_module_with_the_name_of_an_installed_one(tmp_path):
    """A process has one of the two; a folder of data, or a module of no such name, is none."""
    for name in ("numpy", "json", "iris", "wakeful"):
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "onnxruntime").mkdir()
    problems = doubled_modules([tmp_path / "none", tmp_path])
    assert [Path(problem.file).name for problem in problems] == ["json.py", "numpy.py"]
    for problem, values in zip(
        problems, (("standard library", "json_"), ("an installed package", "numpy_")), strict=True
    ):
        expect_values(problem.message, *values)


WITH_A_MODEL = """\
applications:
  - name: plain
    route_prefix: /v2/models/plain
    import_path: deployments:function
    args: {graph: [{stage: s, python: "stages:plain"}]}
  - name: a
    route_prefix: /v2/models/a
    import_path: deployments:function
    args: {onnx: a.onnx}
"""


def test_a_model_needs_a_build_of_onnx_runtime(tmp_path: Path, monkeypatch):
    """Its line is named, and what to install; a file without models needs none."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(WITH_A_MODEL)
    file = config_file.read(path)
    assert missing_build(file) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (problem,) = missing_build(file)
    assert (problem.line, problem.key) == (9, "applications[1].args.onnx")
    assert "pip install 'wakeful[cpu]'" in problem.message
    path.write_text(
        WITH_A_MODEL.replace("onnx: a.onnx", 'graph: [{stage: s, python: "stages:plain"}]')
    )
    assert missing_build(config_file.read(path)) == []
