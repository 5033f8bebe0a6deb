"""`wakeful add DIR`: the models of a Triton repository become functions of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deployments.cli import main
from runtime.declaration.config_file import read
from tests.onnx_models import double
from wakeful.testing import serve

ROOT = Path(__file__).parent.parent.parent.parent

FILE = """\
# our functions
applications:
  - name: hello        # the first
    args: {graph: [{stage: greet, python: "tests.basic_stages:greet"}]}

# the end
"""

FAST = """
name: "fast"
platform: "onnxruntime_onnx"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 500 }
instance_group [ { count: 2 kind: KIND_CPU } ]
response_cache { enable: true }
"""

TWICE = """
name: "twice"
platform: "ensemble"
max_batch_size: 8
input [ { name: "raw" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "done" data_type: TYPE_FP32 dims: [ 3 ] } ]
ensemble_scheduling { step [
  { model_name: "fast" model_version: -1
    input_map { key: "x" value: "mid" } output_map { key: "y" value: "done" } },
  { model_name: "whole" model_version: -1
    input_map { key: "x" value: "raw" } output_map { key: "y" value: "mid" } } ] }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and a repository in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serve_config.yaml").write_text(FILE)
    repository = tmp_path / "triton"
    for name, version in (("fast", 1), ("fast", 3), ("whole", 1)):
        double(repository / name / str(version) / "model.onnx", ("n", 3))
    (repository / "fast" / "config.pbtxt").write_text(FAST)
    (repository / "twice" / "1").mkdir(parents=True)
    (repository / "twice" / "config.pbtxt").write_text(TWICE)
    (repository / "tree" / "1").mkdir(parents=True)
    (repository / "tree" / "1" / "model.py").write_text("")
    (repository / "tree" / "config.pbtxt").write_text('backend: "python"')
    (repository / "broken").mkdir()
    (repository / "broken" / "config.pbtxt").write_text("name: 7 8")
    return tmp_path


def add(*args: str) -> Result:
    return CliRunner().invoke(main, ["add", *args])


def test_a_repository_becomes_functions(folder: Path) -> None:
    """What was taken and left is said; the file keeps every line, and the functions answer."""
    result = add("triton")
    assert result.exit_code == 0, result.output
    for line in (
        "fast: added.",
        "  took max_batch_size: 16",
        "  took max_queue_delay_microseconds: 500",
        "  took instance_group: 2 (workers)",
        "  left versions 1 (one is served: 3)",
        "  left preferred_batch_size (a batch leaves as soon as a worker is free)",
        "  left response_cache (no answers are kept)",
        "tree: left out: its backend is python; ONNX Runtime runs models here.",
        "serve_config.yaml has 3 functions more now: fast, twice, whole.",
    ):
        assert line in result.output
    page = (ROOT / "docs" / "models.md").read_text()
    shown = page.partition("$ wakeful add triton/\n")[2].partition("```")[0].splitlines()
    assert len(shown) > 5
    assert set(shown[:-1]) <= set(result.output.splitlines())
    assert "broken: left out: " in result.output
    assert "config.pbtxt:1:" in result.output
    text = (folder / "serve_config.yaml").read_text()
    assert text.startswith(FILE.partition("\n# the end")[0])
    assert text.endswith("# the end\n")
    functions = {spec.name: spec for spec in read(folder / "serve_config.yaml").functions}
    fast = functions["fast"]
    assert fast.graph[0].onnx == "triton/fast/3/model.onnx"
    assert (fast.batching.max_batch_size, fast.batching.batch_wait_timeout_s) == (16, 0.0005)
    assert fast.resources.num_cpus == 2
    with serve(folder / "serve_config.yaml") as app:
        assert app.fast(x=[1, 2, 3]) == {"y": [2, 4, 6]}
        assert app.whole(x=[1, 2, 3]) == {"y": [2, 4, 6]}
        assert app.twice(raw=[1, 2, 3]) == {"done": [4, 8, 12]}


def test_what_is_there_is_left_as_it_is(folder: Path) -> None:
    """A second time nothing is added, and the file is the same to the byte."""
    assert add("triton").exit_code == 0
    before = (folder / "serve_config.yaml").read_bytes()
    result = add("triton")
    assert result.exit_code == 1
    assert "fast: left out: the file has a function of that name." in result.output
    assert (folder / "serve_config.yaml").read_bytes() == before


def test_a_model_that_cannot_be_read_stops_no_other(folder: Path) -> None:
    """One nested without end, one whose file no disk has, one whose file leads in a circle, and one
    with 200 kB to say: each in a line.
    """
    for name, text in (
        ("circle", "name: 'circle'"),
        ("deep", "foo { " * 2000),
        ("long", f'default_model_filename: "{"a" * 300}"'),
        ("loud", "backend: " + f'"{"x" * 2000}\\n"\n' * 100),
    ):
        (folder / "triton" / name / "1").mkdir(parents=True)
        (folder / "triton" / name / "config.pbtxt").write_text(text)
    (folder / "triton" / "circle" / "1" / "model.onnx").symlink_to("model.onnx")
    result = add("triton")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for name, why in (
        ("circle", "symbolic links"),
        ("deep", "config.pbtxt:1: "),
        ("long", "300 bytes"),
        ("loud", "its backend is xxx"),
    ):
        (line,) = [line for line in lines if line.startswith(f"{name}: left out: ")]
        assert why in line
        assert len(line) < 700
    assert "serve_config.yaml has 3 functions more now: fast, twice, whole." in lines


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("triton", "--task", "embedding"), "--task is about a model of a hub"),
        (("triton/fast",), "`wakeful add triton`"),
        (("empty",), "no models of Triton's"),
        (("..",), "lies outside|no models"),
    ],
)
def test_what_is_no_repository_is_refused(
    folder: Path, args: tuple[str, ...], message: str
) -> None:
    """With what to type."""
    (folder / "empty").mkdir()
    result = add(*args)
    assert result.exit_code != 0
    assert any(part in result.output for part in message.split("|"))
    assert (folder / "serve_config.yaml").read_text() == FILE


@pytest.mark.parametrize("name", ["../../../secret.onnx", "/secret.onnx", "link.onnx"])
def test_a_model_elsewhere_is_left_out(folder: Path, name: str) -> None:
    """By dots, by an absolute path, or by a link."""
    secret = double(folder.parent / f"{folder.name}-elsewhere" / "secret.onnx")
    (folder / "triton" / "whole" / "1" / "link.onnx").symlink_to(secret)
    name = name.replace("/secret", str(secret.parent / "secret")) if name[0] == "/" else name
    config = f'default_model_filename: "{name}"'
    (folder / "triton" / "whole" / "config.pbtxt").write_text(config)
    result = add("triton")
    assert "whole: left out: " in result.output
    assert "leads out of the repository" in result.output


def test_a_new_file_is_made(folder: Path) -> None:
    """Where there is none yet."""
    (folder / "serve_config.yaml").unlink()
    assert add("triton").exit_code == 0
    assert [spec.name for spec in read("serve_config.yaml").functions] == ["fast", "twice", "whole"]
