"""`wakeful new` writes functions that work, and overwrites nothing."""

from __future__ import annotations

import importlib.resources
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from deployments.cli import main
from deployments.cli.new import TEMPLATES, NotWritten, module_name
from runtime.declaration.yaml_reader import parse
from tests.deployments.local.running import Shell

ROOT = Path(__file__).parents[3]


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_function_passes_check(invoke, tmp_path, monkeypatch, template):
    """Without a warning; none of its files says what it was made from."""
    name = f"made-of-{template}"
    result = invoke("new", name, "--template", template)
    assert result.exit_code == 0, result.output
    folder = tmp_path / name
    texts = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert f"made_of_{template}.py" in texts
    assert not [
        file for file, text in texts.items() if b"my_function" in text or b"my-function" in text
    ]
    monkeypatch.chdir(folder)
    found = json.loads(invoke("check", "--json").stdout)
    assert (found["problems"], found["warnings"], found["untried"]) == ([], [], [])
    assert list(found["functions"]) == [name]
    first, _, rest = texts["serve_config.yaml"].decode().partition("\n")
    schema = json.loads(texts[first.removeprefix("# yaml-language-server: $schema=")])
    Draft202012Validator(schema).validate(parse(rest, "serve_config.yaml").data)


@pytest.mark.slow
def test_the_tests_of_new_functions_pass(invoke, tmp_path):
    """As their authors run them."""
    for template in TEMPLATES:
        assert invoke("new", f"fresh-{template}", "--template", template).exit_code == 0
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout
    assert result.stdout.count(".") >= 2 * len(TEMPLATES)


@pytest.mark.slow
def test_a_new_function_is_served_and_called(invoke, tmp_path):
    """By the commands that `new` prints, and its own sample request."""
    assert invoke("new", "flowers", "--template", "onnx").exit_code == 0
    shell = Shell(tmp_path / "flowers", str(tmp_path))
    with shell.serving() as run:
        answer = json.loads(shell.run("call", "flowers", "@request.json", "--url", run.url).stdout)
    assert answer["species"] == "setosa"
    assert answer["probability"] > 0.9


def test_the_working_folder_may_become_a_project(invoke, tmp_path, monkeypatch):
    """Under its own name."""
    (tmp_path / "greeter").mkdir()
    monkeypatch.chdir(tmp_path / "greeter")
    result = invoke("new", ".")
    assert result.exit_code == 0, result.output
    assert "cd" not in shlex.split(result.stdout, comments=True)
    assert (tmp_path / "greeter" / "greeter.py").exists()


def test_a_path_names_the_folder(invoke, tmp_path):
    """Its last part is the function's name."""
    result = invoke("new", "services/greeter")
    assert result.exit_code == 0, result.output
    assert "cd services/greeter" in result.stdout
    assert "wakeful call greeter @request.json" in result.stdout
    assert (tmp_path / "services" / "greeter" / "greeter.py").exists()


def test_no_file_is_overwritten(invoke, tmp_path):
    """And then none is written."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.py").write_text("mine\n")
    result = invoke("new", "mine")
    assert result.exit_code == 1
    assert "mine.py is in" in result.stderr
    assert [file.name for file in folder.iterdir()] == ["mine.py"]
    assert (folder / "mine.py").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["json", "class", "numpy", "wakeful", "1st", "a/b", ""])
def test_a_name_that_would_not_work_is_refused(name):
    """One of Python's, of an installed package, and what is no name."""
    with pytest.raises(NotWritten) as refused:
        module_name(name)
    assert refused.value.code == "not_written"


@pytest.mark.models
def test_the_model_of_the_template_is_what_its_script_makes():
    """It names at least 19 of 20 irises rightly, and the same as one that is trained now."""
    from sklearn.datasets import load_iris

    from apps.build.iris import iris_model, sample_picture

    shipped = importlib.resources.files("wakeful") / "templates"
    flowers, species = load_iris(return_X_y=True)
    given = {"measurements": flowers.astype("float32")}
    (probabilities,) = onnxruntime.InferenceSession(
        (shipped / "onnx" / "model.onnx").read_bytes()
    ).run(None, given)
    assert (probabilities.argmax(1) == species).mean() >= 0.95
    (now,) = onnxruntime.InferenceSession(iris_model()).run(None, given)
    assert abs(now - probabilities).max() < 1e-3
    assert (shipped / "image" / "sample.png").read_bytes() == sample_picture()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_click_s_script(invoke, shell):
    """For each shell."""
    result = invoke("completion", shell)
    assert result.exit_code == 0, result.output
    assert f"{shell}_complete" in result.stdout


def test_a_command_is_completed(tmp_path):
    """By what the script calls; no function is up, so none is offered, and nothing is printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        "_WAKEFUL_COMPLETE": "bash_complete",
    }

    def complete(*words: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "deployments.cli"],
            env={**environment, "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.stderr == ""
        return result.stdout

    assert complete("wakeful", "st") == "plain,status\n"
    assert complete("wakeful", "call", "x").strip() == ""
