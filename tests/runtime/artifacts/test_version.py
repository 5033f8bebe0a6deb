"""What a function is made of besides its declaration."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from deployments.rollout.prepare import prepare_for_deployment
from runtime.artifacts.python_imports import ImportScanner
from runtime.artifacts.version import content_digests, pin_models
from runtime.declaration import config_file
from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.errors import StoreError
from runtime.graph.resolve import resolve
from runtime.onnx.preparation import prepare_model
from runtime.onnx.providers import plan_session
from runtime.settings import Settings
from tests import onnx_models

ARGS = {
    "graph": [
        {
            "stage": "before",
            "python": "c_stage:Before",
            "with": {"words": "words.txt", "mode": "fast", "text": "x" * 5000},
        },
        {"stage": "model", "onnx": "m.onnx"},
    ]
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project."""
    (tmp_path / "c_stage.py").write_text("import c_helper\n")
    (tmp_path / "c_helper.py").write_text("")
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "other.txt").write_text("other")
    onnx_models.perceptron(tmp_path / "m.onnx")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def spec(**args: object) -> FunctionSpec:
    """Of that project."""
    return FunctionSpec.from_args("f", "/v2/models/f", {**ARGS, **args})


def made_of(root: Path, of: FunctionSpec | None = None) -> dict[str, str]:
    """As `up` finds it."""
    return content_digests(of or spec(), Settings(root, root / "models"), ImportScanner())


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda root: (root / "c_stage.py").write_text("import c_helper\n\n"), {"code"}),
        (lambda root: (root / "c_helper.py").write_text("x = 1\n"), {"code"}),
        (lambda root: (root / "c_helper.py").write_text("def (\n"), {"code"}),
        (lambda root: (root / "c_helper.py").unlink(), {"code"}),
        (lambda root: (root / "words.txt").write_text("other words"), {"files"}),
        (lambda root: onnx_models.perceptron(root / "m.onnx", seed=1), {"models"}),
        (lambda root: (root / "m.onnx").unlink(), {"models"}),
        (lambda root: (root / "other.txt").write_text("changed"), set()),
        (lambda root: (root / "c_new.py").write_text(""), set()),
        (lambda root: (root / "c_stage.py").touch(), set()),
    ],
)
def test_a_change_is_one_of_its_kind(
    root: Path, change: Callable[[Path], object], kinds: set[str]
) -> None:
    """And of no other; what the function does not consist of changes nothing."""
    before = made_of(root)
    assert before.keys() == {"code", "models", "files"}
    change(root)
    after = made_of(root)
    assert {kind for kind in before if before[kind] != after.get(kind)} == kinds


def test_it_is_part_of_the_identity(root: Path) -> None:
    """So other code is another version, as another graph is."""
    one, two = (spec().with_deployed(made_of={"code": digest}) for digest in ("a", "b"))
    assert version_hash(one) != version_hash(two)
    other = spec(limits={"max_rows": 5}).with_deployed(made_of={"code": "a"})
    assert version_hash(one) == version_hash(other)


def test_a_pinned_model_is_not_part_of_the_digests(root: Path) -> None:
    """And a bare model has neither code nor files."""
    bare = FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx"})
    assert made_of(root, bare).keys() == {"models"}
    assert (
        made_of(
            root,
            FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx", "sha256": "a" * 64}),
        )
        == {}
    )


def test_weights_next_to_a_model_count_before_and_after_it_is_prepared(root: Path) -> None:
    """The digest is the same, read from the model or from the entry of its prepared form."""
    model = onnx.load(root / "m.onnx")
    onnx.save(
        model, root / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    before = made_of(root)
    assert "weights" in before
    prepare_model(root / "m.onnx", plan_session(0, None), Settings(root, root / "models"))
    assert made_of(root) == before
    (root / "weights.bin").write_bytes(bytes((root / "weights.bin").stat().st_size))
    after = made_of(root)
    assert {kind for kind in before if before[kind] != after[kind]} == {"weights"}


def test_weights_next_to_a_pinned_model_count(root: Path) -> None:
    """Its `sha256` is of the file that refers to them, which stays as it is."""
    model = onnx.load(root / "m.onnx")
    onnx.save(
        model, root / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    pinned = pin_models(
        FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx"}),
        Settings(root, root / "models"),
    )
    before = made_of(root, pinned)
    assert before.keys() == {"weights"}
    (root / "weights.bin").write_bytes(bytes((root / "weights.bin").stat().st_size))
    assert made_of(root, pinned) != before


def test_up_adds_it(root: Path) -> None:
    """To what a file says, which does not have it."""
    file = "applications: [{name: f, args: {onnx: m.onnx}}]"
    (root / "serve_config.yaml").write_text(file)
    settings = Settings(root, root / "models")
    resolved = resolve(config_file.read(root / "serve_config.yaml"), settings)
    assert [spec.deployed.made_of for spec in resolved.functions] == [{}]
    (spec,) = prepare_for_deployment(resolved, settings).specs
    assert spec.deployed.made_of == made_of(root, spec) != {}


PINNED = """\
applications:
  - name: a
    route_prefix: /v2/models/a
    import_path: deployments:function
    args:
      graph:
        - {stage: before, python: "c_stage:Before"}
        - {stage: model, onnx: m.onnx}
        - {stage: fetched, onnx: "pypi:p==1/m.onnx", sha256: SHA}
  - {name: b, route_prefix: /v2/models/b, import_path: "deployments:function", args: {onnx: m.onnx}}
""".replace("SHA", "a" * 64)


def test_a_pinned_file_names_the_digest_of_each_model(root: Path) -> None:
    """So a load on any machine is of that model or refused; what was declared stays."""
    (root / "serve_config.yaml").write_text(PINNED)
    settings = Settings(root, root / "models")
    first, second = (
        pin_models(spec, settings)
        for spec in config_file.read(root / "serve_config.yaml").functions
    )
    digest = hashlib.sha256((root / "m.onnx").read_bytes()).hexdigest()
    assert [stage.sha256 for stage in first.graph] == [None, digest, "a" * 64]
    assert second.to_args()["graph"][0]["sha256"] == digest


def test_a_model_that_is_not_there_cannot_be_pinned(root: Path) -> None:
    """The message says what to do."""
    (root / "serve_config.yaml").write_text(PINNED)
    (root / "m.onnx").unlink()
    with pytest.raises(StoreError, match="models pull"):
        pin_models(
            config_file.read(root / "serve_config.yaml").functions[0],
            Settings(root, root / "models"),
        )
