"""Whether two machines would answer alike."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from deployments.sameness import advice, differences, digests, named, pinned
from runtime import specfile
from runtime.errors import StoreError
from runtime.settings import Settings

FILE = """\
applications:
  - name: a
    route_prefix: /v2/models/a
    import_path: deployments:function
    args:
      graph:
        - {stage: before, python: "stages_of_sameness:Before", with: {words: words.txt, limit: 3, mode: fast}}
        - {stage: model, onnx: models/m.onnx}
        - {stage: fetched, onnx: "pypi:p==1/m.onnx", sha256: SHA}
  - {name: b, route_prefix: /v2/models/b, import_path: "deployments:function", args: {onnx: models/m.onnx}}
""".replace("SHA", "a" * 64)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a file, a stage, a file given to it, and a model."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.onnx").write_bytes(b"model")
    (tmp_path / "words.txt").write_bytes(b"words")
    (tmp_path / "stages_of_sameness.py").write_text("import json, helper_of_sameness\nclass Before: ...\n")
    (tmp_path / "helper_of_sameness.py").write_text("X = 1\n")
    (tmp_path / "serve_config.yaml").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def settings(root):
    """Of a machine whose folder this is."""
    return Settings(root=root, models=root / "models")


def test_what_functions_name_is_compared(project):
    """Models of the folder, files given to stages, their modules and what these import; each once, and nothing that is only a word."""
    functions = specfile.read(project / "serve_config.yaml").functions
    assert named(functions, settings(project)) == ["stages_of_sameness", "helper_of_sameness", "models/m.onnx", "words.txt"]


def test_a_machine_finds_them_in_its_own_folders(project, tmp_path_factory):
    """The same names, another root: alike, then not."""
    names = ["words.txt", "models/m.onnx", "stages_of_sameness", "helper_of_sameness", "no_such_module", "no/such.txt"]
    here = digests(names, settings(project))
    assert here["models/m.onnx"] == hashlib.sha256(b"model").hexdigest()
    assert here["helper_of_sameness"] == hashlib.sha256(b"X = 1\n").hexdigest()
    assert (here["no_such_module"], here["no/such.txt"]) == ("", "")
    other = tmp_path_factory.mktemp("other") / "root"
    shutil.copytree(project, other)
    assert differences(here, digests(names, settings(other))) == []
    (other / "models" / "m.onnx").write_bytes(b"other")
    (other / "words.txt").unlink()
    said = differences(here, digests(names, settings(other)))
    assert said == ["models/m.onnx differs", "words.txt is not there"]
    assert "10.0.0.2 would not answer as the others: models/m.onnx differs; words.txt is not there." in advice("10.0.0.2", said)


def test_a_pinned_file_names_the_digest_of_each_model(project):
    """So a load on any machine is of that model or refused; what was declared stays."""
    first, second = pinned(specfile.read(project / "serve_config.yaml"), settings(project)).functions
    digest = hashlib.sha256(b"model").hexdigest()
    assert [stage.sha256 for stage in first.graph] == [None, digest, "a" * 64]
    assert second.to_args()["graph"][0]["sha256"] == digest


def test_a_model_that_is_not_there_is_refused(project):
    """With what to do."""
    (project / "models" / "m.onnx").unlink()
    with pytest.raises(StoreError, match="models pull"):
        pinned(specfile.read(project / "serve_config.yaml"), settings(project))
