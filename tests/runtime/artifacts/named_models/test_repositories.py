"""Which files of a repository make a model."""

from __future__ import annotations

import pytest

from runtime.artifacts.hub import HubFile, HubRepository
from runtime.artifacts.named_models.repositories import choose_files, guess_task, pull_named
from runtime.errors import StoreError


def repository(*paths: str, task: str = "") -> HubRepository:
    return HubRepository("acme/m", "a" * 40, {path: HubFile(1) for path in paths}, task)


@pytest.mark.parametrize(
    ("paths", "onnx", "chosen"),
    [
        (("README.md", "config.json", "onnx/model.onnx"), "", ("config.json", "onnx/model.onnx")),
        (("model.onnx", "onnx/model.onnx", "onnx/model_O4.onnx"), "", ("onnx/model.onnx",)),
        (("onnx/model.onnx", "onnx/model_O4.onnx"), "onnx/model_O4.onnx", ("onnx/model_O4.onnx",)),
        (("net.onnx", "pytorch_model.bin"), "", ("net.onnx",)),
        (
            ("model.onnx", "model.onnx_data", "other.onnx_data"),
            "",
            ("model.onnx", "model.onnx_data"),
        ),
        (
            ("onnx/model.onnx", "config.json", "onnx/config.json", "onnx/tokenizer.json"),
            "",
            ("config.json", "onnx/tokenizer.json", "onnx/model.onnx"),
        ),
        (
            ("onnx/model.onnx", "1_Pooling/config.json", "modules.json", "vocab.txt"),
            "",
            ("modules.json", "1_Pooling/config.json", "onnx/model.onnx"),
        ),
    ],
)
def test_the_files_of_a_model(paths, onnx, chosen):
    """Its configuration, one ONNX file, the weights beside that."""
    assert choose_files(repository(*paths), onnx, None) == chosen


@pytest.mark.parametrize(
    ("paths", "onnx", "said"),
    [
        (("model.safetensors",), "", "optimum-cli export onnx --model acme/m"),
        (("a.onnx", "b.onnx"), "", "--onnx a.onnx"),
        (("a.onnx",), "c.onnx", "It has a.onnx"),
    ],
)
def test_no_file_or_several_are_refused(paths, onnx, said):
    """With what to do."""
    with pytest.raises(StoreError) as raised:
        choose_files(repository(*paths), onnx, "rerank")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("paths", "task", "guessed"),
    [
        ((), "sentence-similarity", "embedding"),
        (("modules.json",), "", "embedding"),
        (("modules.json",), "text-ranking", "rerank"),
        ((), "text-classification", "text-classification"),
        ((), "text-generation", None),
        ((), "", None),
    ],
)
def test_the_task_is_the_hubs(paths, task, guessed):
    """Or that of sentence-transformers' files."""
    assert guess_task(repository(*paths, task=task)) == guessed


def test_another_commit_than_the_pinned_one_is_refused(tmp_path):
    """Whatever the hub has under that name; nothing is fetched, and nothing is written."""
    found = HubRepository("org/name", "b" * 40, {"model.onnx": HubFile(3)})
    with pytest.raises(StoreError, match=f"commit {'b' * 40}"):
        pull_named(
            f"org/name@{'a' * 40}",
            None,
            tmp_path / "models.lock",
            tmp_path / "models",
            lambda event: None,
            found=found,
        )
    assert list(tmp_path.iterdir()) == []
