"""What a function is made of beside its declaration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from runtime import specfile
from runtime.check import linked
from runtime.contents import contents, written
from runtime.modules import Reading
from runtime.onnx.options import plan
from runtime.onnx.prepare import prepare
from runtime.settings import Settings
from runtime.spec import FunctionSpec, identity
from tests import onnx_models

ARGS = {
    "graph": [
        {"stage": "before", "python": "c_stage:Before", "with": {"words": "words.txt", "mode": "fast", "text": "x" * 5000}},
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
    return contents(of or spec(), Settings(root, root / "models"), Reading())


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
def test_a_change_is_one_of_its_kind(root: Path, change: Callable[[Path], object], kinds: set[str]) -> None:
    """And of no other; what the function does not consist of changes nothing."""
    before = made_of(root)
    assert before.keys() == {"code", "models", "files"}
    change(root)
    after = made_of(root)
    assert {kind for kind in before if before[kind] != after.get(kind)} == kinds


def test_it_is_part_of_the_identity(root: Path) -> None:
    """So other code is another version, as another graph is."""
    one, two = (spec(made_of={"code": digest}) for digest in ("a", "b"))
    assert identity(one) != identity(two)
    assert identity(one) == identity(spec(made_of={"code": "a"}, limits={"max_rows": 5}))


def test_a_model_that_is_pinned_says_itself_what_it_is(root: Path) -> None:
    """And a bare model has neither code nor files."""
    bare = FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx"})
    assert made_of(root, bare).keys() == {"models"}
    assert made_of(root, FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx", "sha256": "a" * 64})) == {}


def test_weights_beside_a_model_count_before_and_after_it_is_prepared(root: Path) -> None:
    """The same, whoever names them: the model, or the entry of its prepared form."""
    model = onnx.load(root / "m.onnx")
    onnx.save(model, root / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = made_of(root)
    assert "weights" in before
    prepare(root / "m.onnx", plan(0, None), Settings(root, root / "models"))
    assert made_of(root) == before
    (root / "weights.bin").write_bytes(bytes((root / "weights.bin").stat().st_size))
    after = made_of(root)
    assert {kind for kind in before if before[kind] != after[kind]} == {"weights"}


def test_what_stands_in_the_file_does_not_count(root: Path) -> None:
    """`up` writes it, whatever somebody wrote there before."""
    entry = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args: {{onnx: m.onnx{more}}}
"""
    file = "applications:\n" + entry.format(name="f", more=', made_of: {code: "x"}') + entry.format(name="g", more="")
    (root / "serve_config.yaml").write_text(file)
    settings = Settings(root, root / "models")
    declared = linked(specfile.read(root / "serve_config.yaml"), settings)
    assert [spec.made_of for spec in declared.functions] == [{}, {}]
    one, two = written(declared, settings).functions
    assert one.made_of == two.made_of == made_of(root, two)
