"""Kinds of files: what the model is shown, and what its scores are called."""

from __future__ import annotations

import json

import numpy as np
import pytest

from apps.filetype import PADDING, PART, Name, look


def parts(content: bytes) -> tuple[bytes, bytes]:
    """Beginning and end as the model sees them, its padding taken off."""
    ends = look(content)["ends"]
    begin, end = ends[:PART], ends[PART:]
    assert set(begin[begin == PADDING].tolist() + end[end == PADDING].tolist()) <= {PADDING}
    return bytes(begin[begin < PADDING].tolist()), bytes(end[end < PADDING].tolist())


@pytest.mark.parametrize(
    ("content", "begin", "end"),
    [
        (b"", b"", b""),
        (b"short", b"short", b"short"),
        (b" \n both \t", b"both \t", b" \n both"),
        (b"a" * 1024 + b"b" * 1024, b"a" * 1024, b"b" * 1024),
        (b" " * 4000 + b"x" * 200 + b"y" * 5000, b"x" * 96, b"y" * 1024),
        (b"x" * 5000 + b" " * 4096, b"x" * 1024, b""),
    ],
    ids=["empty", "short", "spaces", "two parts", "a block", "beyond a block"],
)
def test_both_ends_are_shown(content: bytes, begin: bytes, end: bytes):
    """1024 bytes of each, white space skipped within 4096; the beginning padded behind, the end
    before.
    """
    assert parts(content) == (begin, end)
    ends = look(content)["ends"]
    assert ends.dtype == np.int32
    assert ends[: len(begin)].tolist() == list(begin)
    assert ends[2 * PART - len(end) :].tolist() == list(end)


@pytest.mark.parametrize(
    ("content", "is_enough", "otherwise"),
    [
        (b"", False, "empty"),
        (b"1234567", False, "txt"),
        (b"12345678", True, "txt"),
        (b"  1234567", False, "txt"),
        (b"\xff\xfe", False, "unknown"),
        ("für".encode(), False, "txt"),
    ],
)
def test_a_few_bytes_are_named_without_the_model(content: bytes, is_enough: bool, otherwise: str):
    """Fewer than eight say nothing to it."""
    looked = look(content)
    assert (looked["is_enough"], looked["otherwise"]) == (is_enough, otherwise)


@pytest.fixture
def name(tmp_path):
    """Three kinds; one is believed from 0.9 only, one is never answered."""
    config = {
        "target_labels_space": ["python", "sql", "randombytes"],
        "thresholds": {"sql": 0.9},
        "medium_confidence_threshold": 0.5,
        "overwrite_map": {"randombytes": "unknown"},
    }
    known = {"python": True, "sql": True, "unknown": False, "txt": True, "empty": False}
    types = {
        label: {
            "mime_type": None if label == "sql" else f"x/{label}",
            "group": "g",
            "description": label.title(),
            "is_text": is_text,
        }
        for label, is_text in known.items()
    }
    for file, content in (("config.json", config), ("types.json", types)):
        (tmp_path / file).write_text(json.dumps(content))
    return Name(tmp_path / "config.json", tmp_path / "types.json")


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ([0.5, 0.3, 0.2], "python"),
        ([0.49, 0.3, 0.21], "txt"),
        ([0.05, 0.91, 0.04], "sql"),
        ([0.2, 0.8, 0.0], "txt"),
        ([0.0, 0.0, 1.0], "unknown"),
        ([0.3, 0.3, 0.4], "unknown"),
    ],
)
def test_a_kind_is_believed_from_its_threshold(name, scores, label):
    """Below it the answer is only whether it is text; and the score is the model's in any case."""
    answer = name("txt", np.array(scores, np.float32))
    assert (answer["label"], answer["score"]) == (label, pytest.approx(max(scores), abs=1e-4))


def test_without_the_model_it_is_what_it_looked_like(name):
    """And certain."""
    assert name("empty", None) == {
        "label": "empty",
        "mime_type": "x/empty",
        "group": "g",
        "description": "Empty",
        "is_text": False,
        "score": 1.0,
    }


def test_a_kind_without_a_mime_type_is_bytes(name):
    """Every answer has one."""
    assert name("txt", np.array([0, 1, 0], np.float32))["mime_type"] == "application/octet-stream"


@pytest.mark.models
def test_every_kind_of_the_model_is_known(models):
    """Nothing that it may say is missing in the table."""
    folder = models / "filetype"
    config, types = (
        json.loads((folder / name).read_text()) for name in ("config.json", "types.json")
    )
    assert len(config["target_labels_space"]) == 214
    assert {
        *config["target_labels_space"],
        *config["overwrite_map"].values(),
        "empty",
        "txt",
        "unknown",
    } <= set(types)
    assert config["padding_token"] == PADDING
    assert config["beg_size"] == config["end_size"] == PART
