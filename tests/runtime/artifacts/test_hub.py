"""What is asked of a hub, and what of its answers is believed. Its client is a fake."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from runtime.artifacts.hub import HUB_TIMEOUT_S, HubFile, fetch_from_hub, look_up
from runtime.errors import StoreError

COMMIT = "0123456789" * 4


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the client was asked for."""
    return []


def answers(
    monkeypatch: pytest.MonkeyPatch, asked: list[dict[str, Any]], *paths: str, sha: str = COMMIT
) -> None:
    """The hub says that a repository has these files."""

    def model_info(self: object, repository: str, **options: Any) -> SimpleNamespace:
        asked.append({"repository": repository, **options})
        files = [SimpleNamespace(rfilename=path, size=7, lfs=None) for path in paths]
        return SimpleNamespace(sha=sha, siblings=files, card_data=None, pipeline_tag=None)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


def test_no_file_of_a_hub_leaves_its_folder(monkeypatch, asked):
    """Whatever hub it is; a name with dots in it is one like any other."""
    outside = ("/etc/passwd", "../up.onnx", "a/../../up.onnx", "a\\..\\up.onnx", "..")
    answers(monkeypatch, asked, *outside, "onnx/model.onnx", "a..b/c...json")
    found = look_up("acme/tiny", "main")
    assert found.files == {"onnx/model.onnx": HubFile(7), "a..b/c...json": HubFile(7)}


@pytest.mark.parametrize("sha", ["main", "None", COMMIT[:39], COMMIT + "0", COMMIT[:-1] + "G"])
def test_what_is_no_commit_is_not_pinned(monkeypatch, asked, sha):
    """A name may mean another model tomorrow."""
    answers(monkeypatch, asked, "model.onnx", sha=sha)
    with pytest.raises(StoreError, match="which is none"):
        look_up("acme/tiny", "")


def test_a_hub_has_ten_seconds_to_answer(monkeypatch, asked, tmp_path):
    """About a repository and about a file; the revision is handed on, or none."""
    answers(monkeypatch, asked)
    look_up("acme/tiny", "v1")
    look_up("acme/tiny", "")
    assert [(one["revision"], one["timeout"]) for one in asked] == [
        ("v1", HUB_TIMEOUT_S),
        (None, HUB_TIMEOUT_S),
    ]

    def download(repository: str, path: str, **options: Any) -> str:
        assert (repository, path) == ("acme/tiny", "a/model.onnx")
        assert options == {
            "revision": "v1",
            "local_dir": tmp_path,
            "etag_timeout": HUB_TIMEOUT_S,
        }
        return str(tmp_path / path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert fetch_from_hub("acme/tiny", "v1", "a/model.onnx", tmp_path) == tmp_path / "a/model.onnx"
